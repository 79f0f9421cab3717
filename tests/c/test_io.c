/* test_io.c: the readers against good files, hostile files, want of memory at every allocation, and budgets. Files are
 * made here; what a file says and what it holds disagree in every way that a reader of another program once fell for.
 */
#include "io/io.h"

#include <math.h>
#include <locale.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <zlib.h>

/* -- an engine whose allocator counts, fails on purpose and forgets nothing ---------------------------------------- */

typedef struct heap {
  long calls, fail_at; /* fail_at 0: never; the n-th call and all after it fail */
  size_t live, peak;
} heap;

static void *heap_alloc(void *ud, void *p, size_t old, size_t size, size_t align) {
  heap *h = ud;
  if (!size) {
    if (p) h->live -= old;
    free(p);
    return NULL;
  }
  if (h->fail_at && ++h->calls >= h->fail_at) return NULL;
  void *q = NULL;
  if (posix_memalign(&q, align < sizeof(void *) ? sizeof(void *) : align, size) != 0) return NULL;
  if (p) memcpy(q, p, old < size ? old : size);
  free(p);
  h->live = h->live - (p ? old : 0) + size;
  if (h->live > h->peak) h->peak = h->live;
  return q;
}

static heap the_heap;
static mlax_engine *engine;
static mx_ctx ctx;

static int setup(void **state) {
  (void)state;
  mlax_options options = MLAX_OPTIONS;
  memset(&the_heap, 0, sizeof the_heap);
  options.alloc = heap_alloc;
  options.alloc_ud = &the_heap;
  options.threads = 1;
  return mlax_engine_new(&options, &engine, NULL) != MLAX_OK || !mx_ctx_init(&ctx, engine);
}

static int teardown(void **state) {
  (void)state;
  the_heap.fail_at = 0;
  mx_ctx_close(&ctx);
  mlax_engine_release(engine);
  return the_heap.live != 0;
}

/* The pending error has this status and holds the text; it is taken. */
static void assert_failed(mlax_status status, const char *text) {
  assert_int_equal(ctx.error.status, status);
  if (!strstr(ctx.error.text, text)) fail_msg("the message lacks '%s': %s", text, ctx.error.text);
  mx_clear(&ctx);
}

/* -- files made here ----------------------------------------------------------------------------------------------- */

static size_t gzip_of(const void *bytes, size_t size, void *to, size_t room) {
  z_stream z = {0};
  assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY), Z_OK);
  z.next_in = (Bytef *)(uintptr_t)bytes;
  z.avail_in = (uInt)size;
  z.next_out = to;
  z.avail_out = (uInt)room;
  assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
  deflateEnd(&z);
  return z.total_out;
}

static mx_array *idx(const void *bytes, size_t size) { return mx_idx_parse(&ctx, "f.idx", bytes, size); }
#define IDX(text) idx(text, sizeof(text) - 1)

static void idx_refused(const void *bytes, size_t size, const char *text) {
  assert_null(idx(bytes, size));
  assert_failed(MLAX_FORMAT, text);
}
#define IDX_REFUSED(data, text) idx_refused(data, sizeof(data) - 1, text)

static bool csv_with(const char *text, size_t size, const mx_csv_options *o, mx_csv_table *t) {
  mx_bytes b;
  memset(t, 0, sizeof *t);
  return mx_bytes_of(&ctx, "f.csv", text, size, MX_INFLATE_LIMIT, &b) && mx_csv_parse(&ctx, "f.csv", &b, o, t);
}

static void csv_refused(const char *text, size_t size, const char *why) {
  mx_csv_table t;
  mx_csv_options o = MX_CSV_OPTIONS;
  assert_false(csv_with(text, size, &o, &t));
  assert_failed(MLAX_FORMAT, why);
}
#define CSV_REFUSED(data, why) csv_refused(data, sizeof(data) - 1, why)

/* -- IDX ----------------------------------------------------------------------------------------------------------- */

static void test_idx_types(void **state) {
  (void)state;
  mx_array *x = IDX("\0\0\x08\x02\0\0\0\2\0\0\0\3\1\2\3\4\5\xff");
  assert_int_equal(x->aval.dtype, MLAX_UINT8);
  assert_int_equal(x->aval.ndim, 2);
  assert_int_equal(x->aval.shape[1], 3);
  assert_int_equal((unsigned char)mx_data(x)[5], 255);
  mx_release(x);
  x = IDX("\0\0\x09\x01\0\0\0\1\xff");
  assert_int_equal(mx_array_item_int(x), -1);
  mx_release(x);
  x = IDX("\0\0\x0b\x01\0\0\0\1\xff\xfe");
  assert_int_equal(mx_array_item_int(x), -2);
  mx_release(x);
  x = IDX("\0\0\x0c\x00\0\1\0\0");
  assert_int_equal(mx_array_item_int(x), 65536);
  mx_release(x);
  x = IDX("\0\0\x0d\x01\0\0\0\1\x3f\xc0\0\0");
  assert_true(mx_array_item_double(x) == 1.5);
  mx_release(x);
  x = IDX("\0\0\x0e\x01\0\0\0\1\xbf\xf8\0\0\0\0\0\0");
  assert_true(mx_array_item_double(x) == -1.5);
  mx_release(x);
  x = IDX("\0\0\x08\x02\0\0\0\0\0\0\0\7");
  assert_int_equal(x->aval.size, 0);
  mx_release(x);
}

static void test_idx_hostile(void **state) {
  (void)state;
  size_t before = the_heap.peak;
  IDX_REFUSED("", "no IDX file");
  IDX_REFUSED("\0\0\x08", "no IDX file");
  IDX_REFUSED("PK\x03\x04", "no IDX file");
  IDX_REFUSED("\0\0\x0a\x01\0\0\0\1\1", "element type");
  IDX_REFUSED("\0\0\x08\xff\0\0\0\1\1", "too many axes");
  IDX_REFUSED("\0\0\x08\x02\0\0\0\1\0\0", "inside its header");
  IDX_REFUSED("\0\0\x08\x01\0\0\0\2\1", "got 1 bytes of elements, need 2");
  IDX_REFUSED("\0\0\x08\x01\0\0\0\1\1\1", "got 2 bytes of elements, need 1");
  IDX_REFUSED("\0\0\x0e\x02\xff\xff\xff\xff\xff\xff\xff\xff\0", "lengths overflow");
  IDX_REFUSED("\0\0\x08\x03\x80\0\0\0\x80\0\0\0\0\0\0\4\0", "f.idx");
  IDX_REFUSED("\0\0\x08\x02\x7f\xff\xff\xff\0\0\0\1\0", "need 2147483647"); /* nothing is allocated for it */
  assert_true(the_heap.peak - before < 4096);
}

static void test_idx_every_prefix(void **state) {
  (void)state;
  static const char whole[] = "\0\0\x0b\x02\0\0\0\2\0\0\0\2\0\1\0\2\0\3\0\4";
  char packed[200];
  size_t n = gzip_of(whole, sizeof whole - 1, packed, sizeof packed);
  for (size_t i = 0; i < sizeof whole - 1; i++) idx_refused(whole, i, "f.idx");
  for (size_t i = 0; i < n; i++) idx_refused(packed, i, "f.idx");
  mx_array *x = idx(packed, n);
  assert_int_equal(((int16_t *)mx_data(x))[3], 4);
  mx_release(x);
}

/* -- gzip ---------------------------------------------------------------------------------------------------------- */

/* Ten megabytes of zeros in ten kilobytes, in front of which a header says how many are meant. */
static void test_gzip_bomb(void **state) {
  (void)state;
  enum { BOMB = 10 << 20, ROOM = 1 << 15 };
  unsigned char *zeros = calloc(1, BOMB), *packed = malloc(ROOM);
  mx_bytes out;
  memcpy(zeros, "\0\0\x08\x01\0\0\0\x10", 8);
  size_t n = gzip_of(zeros, BOMB, packed, ROOM), before = the_heap.live;
  the_heap.peak = before;
  idx_refused(packed, n, "more than the 24 bytes allowed");
  assert_false(mx_inflate(&ctx, "bomb", packed, n, 1 << 16, &out));
  assert_failed(MLAX_FORMAT, "more than the 65536 bytes allowed");
  assert_null(out.data);
  assert_true(the_heap.peak - before < 4 << 16); /* zlib's own window included */
  assert_true(mx_inflate(&ctx, "bomb", packed, n, BOMB, &out));
  assert_int_equal(out.size, BOMB);
  mx_bytes_free(engine, &out);
  memcpy(zeros + 4, "\x7f\0\0\0", 4); /* a header that promises gigabytes which are not there */
  n = gzip_of(zeros, 1 << 16, packed, ROOM);
  before = the_heap.live;
  the_heap.peak = before;
  idx_refused(packed, n, "need 2130706432");
  assert_true(the_heap.peak - before < 4 << 16);
  free(zeros);
  free(packed);
}

static void test_gzip_members_and_damage(void **state) {
  (void)state;
  char packed[400];
  mx_bytes out;
  size_t n = gzip_of("hello ", 6, packed, sizeof packed);
  size_t all = n + gzip_of("world", 5, packed + n, sizeof packed - n);
  assert_true(mx_inflate(&ctx, "f.gz", packed, all, 100, &out));
  assert_string_equal(out.data, "hello world");
  mx_bytes_free(engine, &out);
  assert_true(mx_inflate(&ctx, "f.gz", packed, all, 11, &out)); /* exactly the budget */
  mx_bytes_free(engine, &out);
  assert_false(mx_inflate(&ctx, "f.gz", packed, all, 10, &out));
  assert_failed(MLAX_FORMAT, "more than the 10 bytes");
  packed[all] = 'x';
  assert_false(mx_inflate(&ctx, "f.gz", packed, all + 1, 100, &out));
  assert_failed(MLAX_FORMAT, "no gzip data");
  for (size_t i = 0; i < n;
       i++) { /* no byte may be wrong: data, checksum and length are covered (time and system are not) */
    if (i >= 4 && i <= 9) continue;
    packed[i] ^= 0x55;
    if (mx_inflate(&ctx, "f.gz", packed, n, 100, &out)) fail_msg("damage at byte %zu was not seen", i);
    assert_failed(MLAX_FORMAT, "f.gz");
    packed[i] ^= 0x55;
  }
  assert_false(mx_inflate(&ctx, "f.gz", "no", 2, 100, &out));
  assert_failed(MLAX_FORMAT, "no gzip data");
}

/* -- CSV ----------------------------------------------------------------------------------------------------------- */

static void check_csv(const char *text, mx_csv_options o, int64_t rows, int64_t columns, const double *want) {
  mx_csv_table t;
  if (!csv_with(text, strlen(text), &o, &t)) fail_msg("%s", ctx.error.text);
  assert_int_equal(t.values->aval.shape[0], rows);
  assert_int_equal(t.values->aval.shape[1], columns);
  size_t item = mx_itemsize(o.dtype);
  for (int64_t i = 0; i < rows * columns; i++) {
    double got = mx_load_double(o.dtype, mx_data(t.values) + (size_t)i * item);
    if (got != want[i] && !(isnan(got) && isnan(want[i])))
      fail_msg("element %d of '%s': %g, need %g", (int)i, text, got, want[i]);
  }
  mx_csv_release(engine, &t);
}

static void test_csv_forms(void **state) {
  (void)state;
  const double four[] = {1, 2, 3, 4};
  mx_csv_options o = MX_CSV_OPTIONS;
  check_csv("1,2\n3,4\n", o, 2, 2, four);
  check_csv("1,2\r\n3,4", o, 2, 2, four);
  check_csv("\xEF\xBB\xBF 1 ,\t2 \n\n \n\"3\", \"4\" \n", o, 2, 2, four);
  check_csv("a,b\n1,2\n3,4\n", o, 2, 2, four);
  check_csv("a,\"b\"\"\n,\"\n1,2\n3,4\n", o, 2, 2, four);
  check_csv("1,2\n3,4\n", (mx_csv_options){.dtype = MLAX_FLOAT32, .header = MX_HEADER_FIRST}, 1, 2, four + 2);
  check_csv("# note, 3\n1,2\n3,4\n", (mx_csv_options){.dtype = MLAX_INT64, .skip = 1}, 2, 2, four);
  check_csv("  1  2 \n3 \t 4", (mx_csv_options){.dtype = MLAX_FLOAT64, .separator = ' '}, 2, 2, four);
  check_csv("1\t2\n3\t4", (mx_csv_options){.dtype = MLAX_FLOAT64, .separator = '\t'}, 2, 2, four);
  check_csv("1;2\n3;4", (mx_csv_options){.dtype = MLAX_UINT8, .separator = ';'}, 2, 2, four);
  check_csv("1,\n,4\n", (mx_csv_options){.dtype = MLAX_FLOAT32, .has_missing = true, .missing = NAN}, 2, 2,
            (double[]){1, NAN, NAN, 4});
  check_csv("nan,-INF\n+Infinity,.5e1\n", o, 2, 2, (double[]){NAN, -HUGE_VAL, HUGE_VAL, 5});
  check_csv("a,b\n", (mx_csv_options){.dtype = MLAX_FLOAT32, .header = MX_HEADER_FIRST}, 0, 2, NULL);
  check_csv("7", o, 1, 1, (double[]){7});
}

static void test_csv_classes(void **state) {
  (void)state;
  mx_csv_table t;
  mx_csv_options o = {.dtype = MLAX_FLOAT32, .classes = -1};
  check_csv("1,red\n2,\"green\"\n3,red\n", o, 3, 2, (double[]){1, 1, 2, 2, 3, 1});
  static const char text[] = "size,kind\n1,\"a\"\"b\"\n2,c\n3,c\n";
  assert_true(csv_with(text, sizeof text - 1, &o, &t));
  assert_int_equal(t.n_names, 2);
  assert_memory_equal(t.names[1].data, "kind", 4);
  assert_int_equal(t.n_classes, 2);
  assert_int_equal(t.classes[0].size, 3);
  assert_memory_equal(t.classes[0].data, "a\"b", 3);
  mx_csv_release(engine, &t);
  char *many = malloc(100000), *p = many; /* enough for the table of classes to grow */
  for (int i = 0; i < 5000; i++) p += sprintf(p, "k%d,%d\n", i % 2500, i);
  o.classes = 1;
  o.dtype = MLAX_INT32;
  assert_true(csv_with(many, (size_t)(p - many), &o, &t));
  assert_int_equal(t.n_classes, 2500);
  assert_int_equal(((int32_t *)mx_data(t.values))[2 * 2501], 2);
  mx_csv_release(engine, &t);
  free(many);
  o.classes = 3;
  assert_false(csv_with("1,2", 3, &o, &t));
  assert_failed(MLAX_ARGUMENT, "no such column");
}

static void test_csv_hostile(void **state) {
  (void)state;
  CSV_REFUSED("", "no records");
  CSV_REFUSED("\n\r\n  \n", "no records");
  CSV_REFUSED("words, words\n", "f.csv:1: field 1 is no number");
  CSV_REFUSED("1,2\n3\n", "f.csv:2: the lines differ in their number of fields (got 1, need 2");
  CSV_REFUSED("1,2\n\n3,4,5\n", "f.csv:3:");
  CSV_REFUSED("1,2\n3,\n", "f.csv:2: field 2 is empty");
  CSV_REFUSED("1,2\n3,x\n", "f.csv:2: field 2 is no number (got 'x')");
  CSV_REFUSED("1,2\n3,\"4\n\n", "f.csv:2: a quote is not closed");
  CSV_REFUSED("1,2\n3,\"4\"5\n", "f.csv:2: text follows a closing quote");
  CSV_REFUSED("1,2\n3,4\0\n", "field 2 is no number");
  CSV_REFUSED("1,2\n0x10,2\n", "field 1 is no number");
  CSV_REFUSED("1\n1e\n", "no number");
  CSV_REFUSED("1\n-\n", "no number");
  CSV_REFUSED("1\n.\n", "no number");
  CSV_REFUSED("1\n1 2\n", "no number");
  CSV_REFUSED("1\n2\r3\n", "no number");
  CSV_REFUSED("1\nnan(1)\n", "no number");
  mx_csv_table t;
  mx_csv_options o = {.dtype = MLAX_FLOAT32, .separator = 'e'};
  assert_false(csv_with("1e2", 3, &o, &t));
  assert_failed(MLAX_ARGUMENT, "cannot separate");
}

/* A line of a megabyte and a line of 300,000 fields: memory stays in proportion to the file. */
static void test_csv_long_lines(void **state) {
  (void)state;
  enum { N = 600000 };
  char *text = malloc(N);
  mx_csv_table t;
  mx_csv_options o = {.dtype = MLAX_FLOAT32, .header = MX_HEADER_NONE};
  memset(text, 'x', N);
  csv_refused(text, N, "no number");
  for (int i = 0; i < N; i++) text[i] = i % 2 ? ',' : '1';
  o.has_missing = true;
  assert_true(csv_with(text, N, &o, &t));
  assert_int_equal(t.values->aval.shape[1], N / 2 + 1);
  mx_csv_release(engine, &t);
  memset(text, '"', N);
  assert_false(csv_with(text, N - 1, &o, &t));
  assert_failed(MLAX_FORMAT, "not closed");
  free(text);
}

/* -- numbers ------------------------------------------------------------------------------------------------------- */

static void test_numbers(void **state) {
  (void)state;
  static const char *const texts[] = {"0",
                                      "-0",
                                      "1",
                                      "0.1",
                                      "3.14159",
                                      "1e22",
                                      "1e23",
                                      "123456789012345678901234567890",
                                      "2.2250738585072014e-308",
                                      "4.9406564584124654e-324",
                                      "1e-400",
                                      "1.7976931348623157e308",
                                      "9007199254740993",
                                      "0.000001",
                                      "5e-324",
                                      "179769313486231580793728971405301e276",
                                      "1.00000000000000011102230246251565404236316680908203125",
                                      "8.5e+2"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    double v, want = strtod(texts[i], NULL);
    assert_true(mx_number_parse(texts[i], strlen(texts[i]), &v));
    if (memcmp(&v, &want, sizeof v) != 0) fail_msg("%s: %.17g, need %.17g", texts[i], v, want);
  }
  uint64_t seed = 1;
  for (int i = 0; i < 20000; i++) { /* every double that is printed comes back */
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    double v, want;
    char text[40];
    memcpy(&want, &seed, sizeof want);
    if (!isfinite(want)) continue;
    int n = snprintf(text, sizeof text, "%.17g", want);
    assert_true(mx_number_parse(text, (size_t)n, &v) && v == want);
  }
}

/* A host that writes decimals with commas changes nothing. (Where the system has such a locale.) */
static void test_numbers_other_locale(void **state) {
  (void)state;
  static const char *const commas[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE"};
  double v;
  for (size_t i = 0; i < 3 && !setlocale(LC_NUMERIC, commas[i]); i++) {}
  assert_true(mx_number_parse("2.5", 3, &v) && v == 2.5);
  assert_true(mx_number_parse("0.30000000000000004", 19, &v) && v == 0.30000000000000004);
  setlocale(LC_NUMERIC, "C");
}

/* -- files, want of memory ----------------------------------------------------------------------------------------- */

static void test_missing_files(void **state) {
  (void)state;
  mx_bytes b;
  assert_null(mx_idx_read(&ctx, "/no/such/file.idx"));
  assert_failed(MLAX_IO, "/no/such/file.idx");
  assert_false(mx_bytes_read(&ctx, "/", 100, &b));
  assert_int_equal(ctx.error.status, MLAX_IO);
  mx_clear(&ctx);
}

typedef bool (*reader)(const void *bytes, size_t size);

static bool read_idx(const void *bytes, size_t size) {
  mx_array *x = idx(bytes, size);
  bool ok = x != NULL;
  mx_release(x);
  return ok;
}

static bool read_csv(const void *bytes, size_t size) {
  mx_csv_table t;
  mx_csv_options o = {.dtype = MLAX_FLOAT32, .classes = 1};
  bool ok = csv_with(bytes, size, &o, &t);
  if (ok) mx_csv_release(engine, &t);
  return ok;
}

/* The n-th allocation and all after it fail, for every n until the reader succeeds: an error each time, nothing leaked.
 */
static void fail_at_each(reader read, const void *bytes, size_t size) {
  mx_cache_trim(engine);
  size_t live = the_heap.live;
  for (long n = 1;; n++) {
    the_heap.calls = 0;
    the_heap.fail_at = n;
    bool ok = read(bytes, size);
    the_heap.fail_at = 0;
    mx_cache_trim(engine);
    if (the_heap.live != live) fail_msg("%zu bytes leaked at failure %ld", the_heap.live - live, n);
    if (ok) break;
    assert_int_equal(ctx.error.status, MLAX_MEMORY);
    mx_clear(&ctx);
    assert_true(n < 1000);
  }
}

static void test_no_memory(void **state) {
  (void)state;
  static const char idx_text[] = "\0\0\x08\x01\0\0\0\3\1\2\3", csv_text[] = "k,v\na,1\nb,2\n\"c\",3\n";
  char packed[200];
  fail_at_each(read_idx, idx_text, sizeof idx_text - 1);
  fail_at_each(read_idx, packed, gzip_of(idx_text, sizeof idx_text - 1, packed, sizeof packed));
  fail_at_each(read_csv, csv_text, sizeof csv_text - 1);
  fail_at_each(read_csv, packed, gzip_of(csv_text, sizeof csv_text - 1, packed, sizeof packed));
}

/* Random damage: whatever the bytes, an array or an error. The sanitizer build watches. */
static void test_random_damage(void **state) {
  (void)state;
  static const char idx_text[] = "\0\0\x0c\x02\0\0\0\2\0\0\0\3aaaabbbbccccddddeeeeffff";
  static const char csv_text[] = "a,\"b\"\n1,2.5e3\r\n\"x\"\"y\",-inf\n";
  char packed[200], bytes[200];
  size_t n_packed = gzip_of(idx_text, sizeof idx_text - 1, packed, sizeof packed);
  const struct {
    reader read;
    const char *from;
    size_t size;
  } kinds[] = {{read_idx, idx_text, sizeof idx_text - 1},
               {read_csv, csv_text, sizeof csv_text - 1},
               {read_idx, packed, n_packed}};
  uint32_t seed = 7;
  for (int i = 0; i < 30000; i++) {
    size_t k = (size_t)i % 3;
    memcpy(bytes, kinds[k].from, kinds[k].size);
    for (int hits = 0; hits < 1 + i % 4; hits++) {
      seed = seed * 1664525u + 1013904223u;
      bytes[(seed >> 16) % kinds[k].size] = (char)(seed >> 8);
    }
    char *exact = malloc(kinds[k].size); /* so that a read past the end is seen */
    memcpy(exact, bytes, kinds[k].size);
    kinds[k].read(exact, kinds[k].size);
    mx_clear(&ctx);
    free(exact);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_idx_types, setup, teardown),
      cmocka_unit_test_setup_teardown(test_idx_hostile, setup, teardown),
      cmocka_unit_test_setup_teardown(test_idx_every_prefix, setup, teardown),
      cmocka_unit_test_setup_teardown(test_gzip_bomb, setup, teardown),
      cmocka_unit_test_setup_teardown(test_gzip_members_and_damage, setup, teardown),
      cmocka_unit_test_setup_teardown(test_csv_forms, setup, teardown),
      cmocka_unit_test_setup_teardown(test_csv_classes, setup, teardown),
      cmocka_unit_test_setup_teardown(test_csv_hostile, setup, teardown),
      cmocka_unit_test_setup_teardown(test_csv_long_lines, setup, teardown),
      cmocka_unit_test_setup_teardown(test_numbers, setup, teardown),
      cmocka_unit_test_setup_teardown(test_numbers_other_locale, setup, teardown),
      cmocka_unit_test_setup_teardown(test_missing_files, setup, teardown),
      cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
      cmocka_unit_test_setup_teardown(test_random_damage, setup, teardown),
  };
  return cmocka_run_group_tests_name("io", tests, NULL, NULL);
}
