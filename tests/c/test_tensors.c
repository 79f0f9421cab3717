/* test_tensors.c: safetensors, npy and zip against good files, the files that have brought other loaders down, want of
 * memory at every allocation, and every change of a single byte. What is refused has allocated no array. */
#include "fault.h"
#include "io/io.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include <zlib.h>

static fault heap;
static mlax_engine *engine;
static mx_ctx ctx;

static int setup(void **state) {
  (void)state;
  mlax_options options = fault_start(&heap);
  options.threads = 1;
  return mlax_engine_new(&options, &engine, NULL) != MLAX_OK || !mx_ctx_init(&ctx, engine);
}

static int teardown(void **state) {
  (void)state;
  mx_ctx_close(&ctx);
  mlax_engine_release(engine);
  const char *problem = fault_end(&heap);
  if (problem) fail_msg("%s", problem);
  return 0;
}

/* The pending error is one of the format and holds the text; it is taken. */
static void assert_refused(const char *name, const char *text) {
  if (ctx.error.status != MLAX_FORMAT) fail_msg("%s: status %d, %s", name, (int)ctx.error.status, ctx.error.text);
  if (!strstr(ctx.error.text, text)) fail_msg("%s: the message lacks '%s': %s", name, text, ctx.error.text);
  mx_clear(&ctx);
}

/* Bytes that a test puts together. */
typedef struct maker {
  char data[4096];
  size_t n;
} maker;

static void put(maker *m, const void *from, size_t n) {
  assert_true(m->n + n <= sizeof m->data);
  memcpy(m->data + m->n, from, n);
  m->n += n;
}
static void put_text(maker *m, const char *text) { put(m, text, strlen(text)); }
static void put_number(maker *m, uint64_t v, int bytes) {
  for (int i = 0; i < bytes; i++, v >>= 8) put(m, &(char){(char)v}, 1);
}

/* -- safetensors --------------------------------------------------------------------------------------------------- */

/* A file of this header (its length told as `length`, 0: as it is) and `elements` bytes. */
static void tensors_make(maker *m, const char *header, uint64_t length, size_t elements) {
  m->n = 0;
  put_number(m, length ? length : strlen(header), 8);
  put_text(m, header);
  for (size_t i = 0; i < elements; i++) put(m, &(char){(char)i}, 1);
}

static bool tensors_open(const maker *m, mx_table *t) {
  mx_source s = mx_source_of("f", m->data, m->n);
  return mx_safetensors_open(&ctx, &s, t);
}

static const struct {
  const char *name, *header;
  uint64_t length;
  size_t elements;
  const char *text;
} hostile[] = {
    {"header longer than 100 MB", "{}", 100000001, 0, "its header would have 100000001 bytes"},
    {"header longer than the file", "{}", 3, 0, "its header would have 3 bytes"},
    {"header length wraps", "{}", UINT64_MAX, 0, "its header would have"},
    {"header length wraps by 8", "{}", UINT64_MAX - 7, 0, "its header would have"},
    {"not UTF-8", "{\"\xff\":1}", 0, 0, "not UTF-8"},
    {"overlong UTF-8", "{\"\xc0\x80\":1}", 0, 0, "not UTF-8"},
    {"a surrogate in UTF-8", "{\"\xed\xa0\x80\":1}", 0, 0, "not UTF-8"},
    {"only a bracket", "{", 0, 0, "need '\"'"},
    {"nothing", " ", 0, 0, "need '{'"},
    {"not JSON", "hello", 0, 0, "need '{'"},
    {"a list", "[]", 0, 0, "need '{'"},
    {"two objects", "{}{}", 0, 0, "something follows"},
    {"trailing comma", "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},}", 0, 1, "need '\"'"},
    {"offsets overlap",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_"
     "offsets\":[2,6]}}",
     0, 6, "share bytes"},
    {"the same range twice",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_"
     "offsets\":[0,4]}}",
     0, 4, "share bytes"},
    {"a hole",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_"
     "offsets\":[3,5]}}",
     0, 5, "a hole before 'b'"},
    {"a hole at the start", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 0, 3,
     "a hole before 'a'"},
    {"trailing bytes", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 0, 9,
     "bytes follow the last array"},
    {"trailing bytes and no array", "{}", 0, 1, "bytes follow the last array"},
    {"two bytes are missing", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 0, 6,
     "leave the file"},
    {"the end before the beginning", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,0]}}", 0, 2,
     "leave the file"},
    {"shape and bytes disagree", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1000,1000],\"data_offsets\":[0,4]}}", 0, 4,
     "shape and bytes disagree"},
    {"the product wraps", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2,18446744073709551612],\"data_offsets\":[0,0]}}", 0, 0,
     "too large"},
    {"the product wraps to zero", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}",
     0, 0, "overflows"},
    {"the product is too large", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2,9223372036854775807],\"data_offsets\":[0,8]}}",
     0, 8, "overflows"},
    {"the bytes wrap", "{\"a\":{\"dtype\":\"F64\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 0, 0,
     "overflows"},
    {"32 bits of the product are right", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967297],\"data_offsets\":[0,1]}}", 0,
     1, "shape and bytes disagree"},
    {"thirteen axes", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 0, 1,
     "too many numbers"},
    {"one offset", "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0]}}", 0, 1, "not whole"},
    {"three offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1,2]}}", 0, 1, "too many numbers"},
    {"a negative length", "{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 0, 1,
     "need an integer from 0 on"},
    {"a broken length", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", 0, 1, "need ','"},
    {"a length with an exponent", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1e0],\"data_offsets\":[0,1]}}", 0, 1,
     "need ','"},
    {"a length with a zero before", "{\"a\":{\"dtype\":\"U8\",\"shape\":[01],\"data_offsets\":[0,1]}}", 0, 1,
     "need an integer"},
    {"a length that is a text", "{\"a\":{\"dtype\":\"U8\",\"shape\":[\"1\"],\"data_offsets\":[0,1]}}", 0, 1,
     "need an integer"},
    {"an unknown dtype", "{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[],\"data_offsets\":[0,1]}}", 0, 1,
     "no such dtype here (got \"F8_E4M3\")"},
    {"no dtype", "{\"a\":{\"shape\":[],\"data_offsets\":[0,1]}}", 0, 1, "not whole"},
    {"a key twice", "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 0, 1,
     "unknown or there twice"},
    {"an unknown key", "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1],\"x\":1}}", 0, 1,
     "unknown or there twice"},
    {"a name twice",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_"
     "offsets\":[1,2]}}",
     0, 2, "two arrays are named 'a'"},
    {"a name twice, once with escapes",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[],\"data_"
     "offsets\":[1,2]}}",
     0, 2, "two arrays are named 'a'"},
    {"metadata that is no text", "{\"__metadata__\":{\"a\":1}}", 0, 0, "need '\"'"},
    {"metadata twice", "{\"__metadata__\":{},\"__metadata__\":{}}", 0, 0, "twice"},
    {"a name with a zero", "{\"a\\u0000b\":1}", 0, 0, "no character"},
    {"half a surrogate pair", "{\"\\ud800x\":1}", 0, 0, "no character"},
    {"an unknown escape", "{\"\\x\":1}", 0, 0, "unknown escape"},
    {"a name without an end", "{\"abc", 0, 0, "does not end"},
    {"a name that ends in a backslash", "{\"abc\\", 0, 0, "unknown escape"},
    {"a line end in a name", "{\"a\nb\":1}", 0, 0, "control character"},
};

static void test_hostile_tensors(void **state) {
  (void)state;
  maker m;
  mx_table t;
  for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
    tensors_make(&m, hostile[i].header, hostile[i].length, hostile[i].elements);
    if (tensors_open(&m, &t)) fail_msg("%s: is not refused", hostile[i].name);
    assert_refused(hostile[i].name, hostile[i].text);
    assert_null(t.entries);
  }
  for (m.n = 0; m.n < 8; m.n++) {
    assert_false(tensors_open(&m, &t));
    assert_refused("a file of less than 8 bytes", "no safetensors file");
  }
  assert_true(heap.peak < 1 << 20);
}

/* A million brackets, and what ten million arrays of no bytes would be: neither stack nor memory gives way. */
static void test_deep_and_wide_tensors(void **state) {
  (void)state;
  enum { DEPTH = 1000000 };
  char *data = malloc(8 + DEPTH + 8);
  mx_table t;
  memset(data, '{', 8 + DEPTH);
  mx_source s = mx_source_of("f", data, 8 + DEPTH);
  memcpy(data, "\x40\x42\x0f\0\0\0\0\0", 8);
  assert_false(mx_safetensors_open(&ctx, &s, &t));
  assert_refused("deep", "need '\"'");
  memcpy(data + 8, "{\"a\":{\"shape\":[", 15);
  memset(data + 23, '[', DEPTH - 15);
  assert_false(mx_safetensors_open(&ctx, &s, &t));
  assert_refused("deep lists", "need an integer");
  free(data);
}

static void test_good_tensors(void **state) {
  (void)state;
  maker m;
  mx_table t;
  tensors_make(&m,
               " {\"b\":{\"shape\":[2],\"data_offsets\":[1,5],\"dtype\":\"U16\"} , \"__metadata__\":{\"k\":\"v\\n\"},"
               "\"\\u00e4\\ud83d\\ude00\\/\":{\"dtype\":\"BOOL\",\"shape\":[],\"data_offsets\":[0,1]},"
               "\"none\":{\"dtype\":\"F64\",\"shape\":[3,0],\"data_offsets\":[1,1]}}   ",
               0, 5);
  assert_true(tensors_open(&m, &t));
  mx_source s = mx_source_of("f", m.data, m.n);
  assert_int_equal(t.n, 3);
  assert_string_equal(t.entries[0].name.data, "\xc3\xa4\xf0\x9f\x98\x80/");
  assert_string_equal(t.entries[1].name.data, "none");
  mx_array *b = mx_safetensors_read(&ctx, &s, &t.entries[2]), *none = mx_safetensors_read(&ctx, &s, &t.entries[1]);
  assert_int_equal(((uint16_t *)mx_data(b))[0], 0x0201);
  assert_int_equal(none->aval.size, 0);
  mx_release(b);
  mx_release(none);
  mx_table_free(engine, &t);
}

/* -- files --------------------------------------------------------------------------------------------------------- */

static char path[] = "/tmp/mlax-tensors-XXXXXX";

static mx_array *counted(int dtype, int64_t rows, int64_t columns) {
  mx_aval a;
  assert_true(mx_aval_make(&ctx, &a, dtype, 2, (int64_t[]){rows, columns}));
  mx_array *x = mx_array_new(&ctx, &a);
  for (int64_t i = 0; i < a.size; i++)
    mx_store_int(dtype, mx_data(x) + (size_t)i * mx_itemsize(dtype), dtype ? i % 100 : i % 2);
  return x;
}

static bool same(const mx_array *x, const mx_array *y) {
  char *a = malloc(mx_nbytes(&x->aval) + 1), *b = malloc(mx_nbytes(&x->aval) + 1);
  bool equal = mx_shape_equal(&x->aval, &y->aval) && x->aval.dtype == y->aval.dtype;
  if (equal) {
    mx_array_read_all(x, a);
    mx_array_read_all(y, b);
    equal = !memcmp(a, b, mx_nbytes(&x->aval));
  }
  free(a);
  free(b);
  return equal;
}

static void name_file(void) {
  strcpy(path, "/tmp/mlax-tensors-XXXXXX");
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  close(fd);
}

typedef struct kind {
  bool (*write)(mx_ctx *c, const char *path, mx_named *items, int n);
  bool (*open)(mx_ctx *c, const mx_source *s, mx_table *t);
  mx_array *(*read)(mx_ctx *c, const mx_source *s, const mx_entry *e);
  int first, last; /* dtypes */
} kind;

static bool plain_write(mx_ctx *c, const char *to, mx_named *items, int n) {
  return mx_npz_write(c, to, items, n, false);
}
static bool packed_write(mx_ctx *c, const char *to, mx_named *items, int n) {
  return mx_npz_write(c, to, items, n, true);
}
static const kind kinds[] = {{mx_safetensors_write, mx_safetensors_open, mx_safetensors_read, MLAX_BOOL, MLAX_FLOAT64},
                             {plain_write, mx_npz_open, mx_npz_read, MLAX_BOOL, MLAX_FLOAT16},
                             {packed_write, mx_npz_open, mx_npz_read, MLAX_BOOL, MLAX_FLOAT16}};

/* Every dtype, transposed and as it is, into a file and back. */
static void test_round_trips(void **state) {
  (void)state;
  static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m"};
  name_file();
  for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
    mx_named items[MX_DTYPE_COUNT];
    mx_array *wanted[MX_DTYPE_COUNT];
    int n = 0;
    for (int dtype = kinds[k].first; dtype <= kinds[k].last; dtype++, n++) {
      mx_array *x = counted(dtype, 3, 5);
      mx_aval turned = x->aval;
      turned.shape[0] = 5, turned.shape[1] = 3;
      wanted[n] =
          dtype % 2 ? mx_retain(x) : mx_array_view(&ctx, x, &turned, 0, (int64_t[]){x->strides[1], x->strides[0]});
      items[n] = (mx_named){{names[n], 1}, wanted[n]};
      mx_release(x);
    }
    assert_true(kinds[k].write(&ctx, path, items, n));
    mx_source s;
    mx_table t;
    assert_true(mx_source_open(&ctx, &s, path));
    assert_true(kinds[k].open(&ctx, &s, &t));
    assert_int_equal(t.n, n);
    for (int i = 0; i < n; i++) {
      mx_array *y = kinds[k].read(&ctx, &s, &t.entries[i]);
      assert_non_null(y);
      assert_true(same(wanted[t.entries[i].name.data[0] - 'a'], y));
      mx_release(y);
    }
    mx_table_free(engine, &t);
    mx_source_close(engine, &s);
    for (int i = 0; i < n; i++) mx_release(wanted[i]);
  }
  remove(path);
}

/* Opens and reads all of it; false with an error pending. */
static bool read_whole(mx_ctx *c, const kind *k, const void *bytes, size_t size) {
  mx_source s = mx_source_of("f", bytes, size);
  mx_table t;
  if (!k->open(c, &s, &t)) return false;
  bool ok = true;
  for (int i = 0; ok && i < t.n; i++) {
    mx_array *x = k->read(c, &s, &t.entries[i]);
    ok = x != NULL;
    mx_release(x);
  }
  mx_table_free(c->engine, &t);
  return ok;
}

static void *file_of(const kind *k, size_t *size) {
  mx_array *x = counted(MLAX_FLOAT32, 2, 3), *y = counted(MLAX_UINT8, 40, 1);
  mx_named items[] = {{{"x", 1}, x}, {{"y", 1}, y}};
  name_file();
  assert_true(k->write(&ctx, path, items, 2));
  void *bytes = mx_file_read(&ctx, path, 0, size);
  assert_non_null(bytes);
  remove(path);
  mx_release(x);
  mx_release(y);
  return bytes;
}

/* Each byte changed in turn, and each shorter file: a value or an error, never more. */
static void test_damage(void **state) {
  (void)state;
  for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
    size_t size;
    char *bytes = file_of(&kinds[k], &size);
    long accepted = 0;
    for (size_t i = 0; i < size; i++)
      for (int bit = 0; bit < 8; bit++) {
        bytes[i] ^= (char)(1 << bit);
        accepted += read_whole(&ctx, &kinds[k], bytes, size);
        mx_clear(&ctx);
        bytes[i] ^= (char)(1 << bit);
      }
    assert_true(accepted < (long)size * 8);
    for (size_t n = 0; n < size; n++) {
      char *cut = malloc(n ? n : 1); /* of its own, so that a read behind its end is found */
      memcpy(cut, bytes, n);
      assert_false(read_whole(&ctx, &kinds[k], cut, n));
      assert_int_equal(ctx.error.status, MLAX_FORMAT);
      mx_clear(&ctx);
      free(cut);
    }
    mx_free(engine, bytes, size + 1);
  }
  assert_true(heap.peak < 8 << 20);
}

typedef struct memory_case {
  const kind *k;
  const char *bytes;
  size_t size;
} memory_case;

static bool read_body(mlax_engine *e, void *arg) {
  const memory_case *m = arg;
  mx_ctx c;
  mx_ctx_init(&c, e);
  bool ok = read_whole(&c, m->k, m->bytes, m->size);
  mx_ctx_close(&c);
  return ok;
}

static bool write_body(mlax_engine *e, void *arg) {
  const memory_case *m = arg;
  mx_ctx c;
  mx_aval a;
  mx_ctx_init(&c, e);
  mx_array *x = mx_aval_make(&c, &a, MLAX_FLOAT32, 1, (int64_t[]){300}) ? mx_array_new(&c, &a) : NULL;
  if (x) memset(mx_data(x), 0, mx_nbytes(&a));
  bool ok = x && m->k->write(&c, path, (mx_named[]){{{"x", 1}, x}, {{"y", 1}, x}}, 2);
  mx_release(x);
  mx_ctx_close(&c);
  return ok;
}

static void test_want_of_memory(void **state) {
  (void)state;
  for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
    size_t size;
    char *bytes = file_of(&kinds[k], &size);
    memory_case m = {&kinds[k], bytes, size};
    const char *problem = fault_sweep(read_body, &m);
    if (problem) fail_msg("reading kind %zu: %s", k, problem);
    problem = fault_sweep(write_body, &m);
    if (problem) fail_msg("writing kind %zu: %s", k, problem);
    remove(path);
    mx_free(engine, bytes, size + 1);
  }
}

/* -- npy ----------------------------------------------------------------------------------------------------------- */

static mx_array *npy(const maker *m) {
  mx_source s = mx_source_of("f.npy", m->data, m->n);
  return mx_npy_read(&ctx, &s);
}

/* A file of this version and header, which ends in a line end, and elements. */
static void npy_make(maker *m, int version, const char *header, size_t elements) {
  m->n = 0;
  put(m, "\x93NUMPY", 6);
  put_number(m, (uint64_t)version, 2);
  put_number(m, strlen(header) + 1, version == 1 ? 2 : 4);
  put_text(m, header);
  put_text(m, "\n");
  for (size_t i = 0; i < elements; i++) put(m, &(char){(char)i}, 1);
}

static void test_good_npy(void **state) {
  (void)state;
  maker m;
  for (int version = 1; version <= 3; version++) {
    npy_make(&m, version, "{\"shape\": (2L,2) ,'fortran_order':True , 'descr':'>i2'}  ", 8);
    mx_array *x = npy(&m);
    assert_non_null(x);
    assert_int_equal(x->aval.dtype, MLAX_INT16);
    int16_t all[4];
    mx_array_read_all(x, all);
    assert_int_equal(all[0], 0x0001);
    assert_int_equal(all[1], 0x0405);
    assert_int_equal(all[2], 0x0203);
    mx_release(x);
  }
  npy_make(&m, 1, "{'descr': '|b1', 'fortran_order': False, 'shape': (3,), }", 3);
  mx_array *x = npy(&m);
  assert_memory_equal(mx_data(x), "\0\1\1", 3); /* 2 is true, too */
  mx_release(x);
  npy_make(&m, 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (), }", 8);
  x = npy(&m);
  assert_int_equal(x->aval.ndim, 0);
  mx_release(x);
}

static const struct {
  const char *header;
  size_t elements;
  const char *text;
} hostile_npy[] = {
    {" ", 0, "need '{'"},
    {"{}", 0, "a key is missing"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)", 8, "need ',' or '}'"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (2", 8, "need ',' or ')'"},
    {"{'descr': '<f4', 'fortran_order': False, }", 0, "a key is missing"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (), 'x': 1}", 4, "a key is unknown"},
    {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': ()}", 4, "there twice"},
    {"{'descr': '|O', 'fortran_order': False, 'shape': ()}", 8, "the dtype '|O' is not read"},
    {"{'descr': '<V2', 'fortran_order': False, 'shape': ()}", 2, "bfloat16?"},
    {"{'descr': '<c8', 'fortran_order': False, 'shape': ()}", 8, "the dtype '<c8' is not read"},
    {"{'descr': '', 'fortran_order': False, 'shape': ()}", 8, "is not read"},
    {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ()}", 4, "structures are not read"},
    {"{'descr': '<f4', 'fortran_order': 0, 'shape': ()}", 4, "True or False"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", 4, "need a length"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}", 4, "need a length"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': 3}", 4, "need a tuple"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (,)}", 4, "need a length"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", 4, "too large"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", 0, "overflows"},
    {"{'descr': '<f4', 'fortran_order': True, 'shape': (4611686018427387904, 4)}", 0, "overflows"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1,1,1,1,1)}", 4, "too many axes"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 7, "got 7 bytes of elements, need 8"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 9, "got 9 bytes of elements, need 8"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x", 8, "something follows"},
    {"{'descr': '<f\\x34', 'fortran_order': False, 'shape': (2,)}", 8, "does not end"},
    {"__import__('os').system('true')", 8, "need '{'"},
};

static void test_hostile_npy(void **state) {
  (void)state;
  maker m;
  for (size_t i = 0; i < sizeof hostile_npy / sizeof *hostile_npy; i++) {
    npy_make(&m, 1, hostile_npy[i].header, hostile_npy[i].elements);
    assert_null(npy(&m));
    assert_refused(hostile_npy[i].header, hostile_npy[i].text);
  }
  npy_make(&m, 4, "{}", 0);
  assert_null(npy(&m));
  assert_refused("version 4", "unknown version");
  npy_make(&m, 2, "{}", 0);
  memcpy(m.data + 8, "\xff\xff\xff\xff", 4);
  assert_null(npy(&m));
  assert_refused("a long header", "header of the npy file has 4294967295 bytes");
  npy_make(&m, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': ()}", 0);
  m.data[m.n - 1] = ' ';
  assert_null(npy(&m));
  assert_refused("no line end", "line end");
  assert_true(heap.peak < 1 << 20);
}

/* -- zip ----------------------------------------------------------------------------------------------------------- */

/* What two headers of an entry say; each number can be made to lie. */
typedef struct lies {
  const char *name, *local_name;
  uint32_t flags, method, size, packed, local_size, offset, crc_off;
} lies;

static const char inside[] = "\x93NUMPY\1\0\x3a\0{'descr': '|u1', 'fortran_order': False, 'shape': (4,), }\nabcd";

static void header_put(maker *m, const lies *l, bool central, size_t size, uint32_t crc) {
  put_number(m, central ? 0x02014b50 : 0x04034b50, 4);
  if (central) put_number(m, 20, 2);
  put_number(m, 20, 2);
  put_number(m, l->flags, 2);
  put_number(m, l->method, 2);
  put_number(m, 0, 4);
  put_number(m, crc + l->crc_off, 4);
  put_number(m, size + l->packed, 4);
  put_number(m, size + (central ? l->size : l->size + l->local_size), 4);
  const char *name = central ? l->name : l->local_name;
  put_number(m, strlen(name), 2);
  put_number(m, 0, 2);
  if (central) {
    put_number(m, 0, 2 + 2 + 2 + 4);
    put_number(m, l->offset, 4);
  }
  put_text(m, name);
}

static void zip_make(maker *m, const lies *l, int entries, size_t tail) {
  size_t size = sizeof inside - 1;
  uint32_t crc = (uint32_t)crc32(0, (const Bytef *)inside, (uInt)size);
  m->n = 0;
  header_put(m, l, false, size, crc);
  put(m, inside, size);
  size_t start = m->n;
  for (int i = 0; i < entries; i++) header_put(m, l, true, size, crc);
  size_t length = m->n - start;
  put_number(m, 0x06054b50, 4);
  put_number(m, 0, 4);
  put_number(m, (uint64_t)entries, 2);
  put_number(m, (uint64_t)entries, 2);
  put_number(m, length, 4);
  put_number(m, start, 4);
  put_number(m, 0, 2);
  for (size_t i = 0; i < tail; i++) put(m, "x", 1);
}

static const struct {
  const char *what;
  lies l;
  int entries;
  size_t tail;
  const char *text;
} hostile_zip[] = {
    {"sound", {.name = "a.npy", .local_name = "a.npy"}, 1, 0, NULL},
    {"bytes behind the end", {.name = "a.npy", .local_name = "a.npy"}, 1, 3, "its end is missing"},
    {"another name", {.name = "a.npy", .local_name = "b.npy"}, 1, 0, "two headers disagree"},
    {"another size", {.name = "a.npy", .local_name = "a.npy", .local_size = 1}, 1, 0, "two headers disagree"},
    {"encrypted", {.name = "a.npy", .local_name = "a.npy", .flags = 1}, 1, 0, "encrypted"},
    {"unknown method", {.name = "a.npy", .local_name = "a.npy", .method = 12}, 1, 0, "compression is not read"},
    {"two sizes", {.name = "a.npy", .local_name = "a.npy", .size = 1}, 1, 0, "two sizes"},
    {"past the directory",
     {.name = "a.npy", .local_name = "a.npy", .size = 1, .packed = 1},
     1,
     0,
     "outside the archive"},
    {"huge",
     {.name = "a.npy", .local_name = "a.npy", .size = 0x7fffff00, .packed = 0x7fffff00},
     1,
     0,
     "outside the archive"},
    {"elsewhere", {.name = "a.npy", .local_name = "a.npy", .offset = 0xfffffff0}, 1, 0, "outside the archive"},
    {"at no header", {.name = "a.npy", .local_name = "a.npy", .offset = 1}, 1, 0, ""},
    {"above", {.name = "../a.npy", .local_name = "../a.npy"}, 1, 0, "no sound name"},
    {"inside above", {.name = "a/../b.npy", .local_name = "a/../b.npy"}, 1, 0, "no sound name"},
    {"at the root", {.name = "/a.npy", .local_name = "/a.npy"}, 1, 0, "no sound name"},
    {"a backslash", {.name = "a\\b.npy", .local_name = "a\\b.npy"}, 1, 0, "no sound name"},
    {"not UTF-8", {.name = "\xff.npy", .local_name = "\xff.npy"}, 1, 0, "no sound name"},
    {"no name", {.name = "", .local_name = ""}, 1, 0, "no sound name"},
    {"no array", {.name = "a.txt", .local_name = "a.txt"}, 1, 0, "is no array"},
    {"twice", {.name = "a.npy", .local_name = "a.npy"}, 2, 0, "two arrays are named"},
    {"damaged", {.name = "a.npy", .local_name = "a.npy", .crc_off = 1}, 1, 0, "the checksum differs"},
    {"zip64 without its field", {.name = "a.npy", .local_name = "a.npy", .offset = UINT32_MAX}, 1, 0, "zip64 field"},
    {"a bomb that says it is one",
     {.name = "a.npy", .local_name = "a.npy", .method = 8, .size = 0xfffffe00},
     1,
     0,
     "compressed data"},
};

static void test_hostile_zip(void **state) {
  (void)state;
  maker m;
  for (size_t i = 0; i < sizeof hostile_zip / sizeof *hostile_zip; i++) {
    zip_make(&m, &hostile_zip[i].l, hostile_zip[i].entries, hostile_zip[i].tail);
    bool ok = read_whole(&ctx, &kinds[1], m.data, m.n);
    if (hostile_zip[i].text && ok) fail_msg("%s: is not refused", hostile_zip[i].what);
    if (hostile_zip[i].text) assert_refused(hostile_zip[i].what, hostile_zip[i].text);
    else if (!ok) fail_msg("%s: %s", hostile_zip[i].what, ctx.error.text);
  }
  zip_make(&m, &hostile_zip[0].l, 1, 0);
  m.data[m.n - 22 + 8] = m.data[m.n - 22 + 10] = 2;
  assert_false(read_whole(&ctx, &kinds[1], m.data, m.n));
  assert_refused("fewer entries than said", "number of entries");
  assert_true(heap.peak < 1 << 20);
}

/* Zeros that would grow a thousandfold: they may, but no further than the array inside says, and not past the limit. */
static void test_zip_bomb(void **state) {
  (void)state;
  mx_aval a;
  size_t size;
  mlax_memory_info before;
  assert_true(mx_aval_make(&ctx, &a, MLAX_UINT8, 1, (int64_t[]){4 << 20}));
  mx_array *x = mx_array_new(&ctx, &a);
  memset(mx_data(x), 0, mx_nbytes(&a));
  name_file();
  assert_true(mx_npz_write(&ctx, path, &(mx_named){{"x", 1}, x}, 1, true));
  mx_release(x);
  char *bytes = mx_file_read(&ctx, path, 0, &size);
  assert_true(size < 8192);
  assert_true(read_whole(&ctx, &kinds[2], bytes, size));
  mlax_memory(engine, &before);
  atomic_store(&engine->limit, before.live + (1 << 20));
  mx_cache_trim(engine);
  assert_false(read_whole(&ctx, &kinds[2], bytes, size));
  assert_int_equal(ctx.error.status, MLAX_LIMIT);
  mx_clear(&ctx);
  atomic_store(&engine->limit, 0);
  mx_free(engine, bytes, size + 1);
  remove(path);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_hostile_tensors, setup, teardown),
      cmocka_unit_test_setup_teardown(test_deep_and_wide_tensors, setup, teardown),
      cmocka_unit_test_setup_teardown(test_good_tensors, setup, teardown),
      cmocka_unit_test_setup_teardown(test_round_trips, setup, teardown),
      cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
      cmocka_unit_test_setup_teardown(test_want_of_memory, setup, teardown),
      cmocka_unit_test_setup_teardown(test_good_npy, setup, teardown),
      cmocka_unit_test_setup_teardown(test_hostile_npy, setup, teardown),
      cmocka_unit_test_setup_teardown(test_hostile_zip, setup, teardown),
      cmocka_unit_test_setup_teardown(test_zip_bomb, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
