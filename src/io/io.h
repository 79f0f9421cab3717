/* io.h: readers and writers of data files. A file is bytes that nobody vouches for: a count in it is compared with what
 * is really there before anything is allocated for it, every size is checked, numbers are read without regard to the
 * host's locale, and what does not fit is MLAX_FORMAT with the file's name and the offset or line. Nothing is executed
 * and nothing is guessed.
 *
 *     file --mx_file_read--> bytes --mx_inflate (where it is gzip)--> bytes --mx_idx_parse, mx_csv_parse--> array
 *     file or bytes: a source --header, checked as a whole--> table of named arrays --one by one--> arrays
 *
 * Arrays that come back are new references of the caller. `name` stands in messages only.
 */
#ifndef MX_IO_H
#define MX_IO_H

#include "../array/array.h"

/* Bytes that a reader owns, with a zero behind them. Released by mx_bytes_free; zeroed is empty. */
typedef struct mx_bytes {
  char *data;
  size_t size;
  size_t capacity; /* what was allocated */
} mx_bytes;
void mx_bytes_free(mlax_engine *e, mx_bytes *b);
bool mx_bytes_add(mx_ctx *c, mx_bytes *b, const void *from, size_t n); /* appends; on failure b is as it was */

typedef struct mx_span {
  const char *data; /* inside bytes that somebody else owns */
  size_t size;
} mx_span;

/* What a compressed file may grow to where its contents do not say. */
#define MX_INFLATE_LIMIT ((size_t)1 << 32)

/* -- sources (source.c): where a reader's bytes come from ---------------------------------------------------------- */
typedef struct mx_source {
  const char *name;  /* for messages: the path; the caller's */
  const char *bytes; /* in memory, the caller's; NULL: in the file */
  size_t size;
  mx_file file;
} mx_source;
bool mx_source_open(mx_ctx *c, mx_source *s, const char *path);
mx_source mx_source_of(const char *name, const void *bytes, size_t size);
void mx_source_close(mlax_engine *e, mx_source *s);
/* The n bytes from `offset` on; the file ends too early: an error. */
bool mx_source_read(mx_ctx *c, const mx_source *s, size_t offset, void *to, size_t n);
/* -- files of named arrays ----------------------------------------------------------------------------------------- */
typedef struct mx_named {
  mx_span name;
  mx_array *array; /* borrowed */
} mx_named;

typedef struct mx_entry {
  mx_span name;       /* inside the table's text */
  mx_aval aval;       /* safetensors */
  size_t start, size; /* where its bytes lie in the source */
  size_t inflated;    /* zip: what they grow to */
  uint32_t crc;
  bool is_deflated;
} mx_entry;

/* What a file holds, checked as a whole before anything is allocated for an array. Zeroed is empty. */
typedef struct mx_table {
  int n, cap;
  mx_entry *entries; /* in the order of their bytes; names are distinct */
  mx_bytes text;
} mx_table;
enum { MX_MAX_ENTRIES = 1000000 };
void mx_table_free(mlax_engine *e, mx_table *t);

/* safetensors.c: 8 bytes length, a JSON header {name: {dtype, shape, data_offsets}}, then the elements, little-endian,
 * without holes. */
bool mx_safetensors_open(mx_ctx *c, const mx_source *s, mx_table *t);
mx_array *mx_safetensors_read(mx_ctx *c, const mx_source *s, const mx_entry *e);
bool mx_safetensors_write(mx_ctx *c, const char *path, mx_named *items, int n); /* sorts the items */

/* npy.c: NumPy's file of one array; npz is a zip of such files, each `name.npy`. */
mx_array *mx_npy_read(mx_ctx *c, const mx_source *s);
bool mx_npy_write(mx_ctx *c, const char *path, mx_array *x);
bool mx_npz_open(mx_ctx *c, const mx_source *s, mx_table *t);
mx_array *mx_npz_read(mx_ctx *c, const mx_source *s, const mx_entry *e);
bool mx_npz_write(mx_ctx *c, const char *path, const mx_named *items, int n, bool deflate);

/* -- gzip (gzip.c) ------------------------------------------------------------------------------------------------- */
bool mx_is_gzip(const void *bytes, size_t size);
/* Inflates all members. Memory grows with what has really come out, never past `limit`; more is an error. */
bool mx_inflate(mx_ctx *c, const char *name, const void *bytes, size_t size, size_t limit, mx_bytes *out);
/* The first bytes of what is inside: at most *n of them, *n says how many there were. */
bool mx_inflate_start(mx_ctx *c, const char *name, const void *bytes, size_t size, void *to, size_t *n);
/* A copy of the bytes, or the whole file; inflated where it is gzip. */
bool mx_bytes_of(mx_ctx *c, const char *name, const void *bytes, size_t size, size_t limit, mx_bytes *out);
bool mx_bytes_read(mx_ctx *c, const char *path, size_t limit, mx_bytes *out);

/* -- IDX (idx.c), the format of MNIST: 0 0 type ndim, ndim big-endian 32-bit lengths, the elements big-endian.
 * Plain or gzip; gzip data are inflated no further than the header inside says. */
mx_array *mx_idx_parse(mx_ctx *c, const char *name, const void *bytes, size_t size);
mx_array *mx_idx_read(mx_ctx *c, const char *path);

/* -- CSV (csv.c) --------------------------------------------------------------------------------------------------- */
/* Records are lines that end in LF or CRLF; empty lines are skipped. A field may stand in double quotes, with "" for a
 * quote, and then hold separators and line ends. Spaces around a field are ignored; a space or tab as separator stands
 * for any run of them. */
typedef enum { MX_HEADER_AUTO, MX_HEADER_NONE, MX_HEADER_FIRST } mx_csv_header;
typedef struct mx_csv_options {
  char separator;       /* 0: comma */
  mx_csv_header header; /* AUTO: the first line is one if more follow and a field outside `classes` is no number */
  int64_t skip;         /* lines left out at the start */
  int64_t classes;  /* column whose texts become class numbers 1, 2, ... as they first appear: from 1 or -1; 0: none */
  int dtype;        /* of the result */
  bool has_missing; /* an empty field is `missing`; otherwise it is an error */
  double missing;
} mx_csv_options;
#define MX_CSV_OPTIONS                                                                                                 \
  { .dtype = MLAX_FLOAT32 }

typedef struct mx_csv_table {
  mx_array *values; /* {records, columns} */
  int n_names, names_cap;
  mx_span *names; /* of the header */
  int n_classes, classes_cap;
  mx_span *classes;
  int32_t *slots; /* hash of classes: positions + 1 */
  int slots_cap;
  mx_bytes bytes; /* spans point into it */
} mx_csv_table;

/* Takes `bytes` (also on failure; the table is then released). The table is written whatever happens. */
bool mx_csv_parse(mx_ctx *c, const char *name, mx_bytes *bytes, const mx_csv_options *o, mx_csv_table *t);
void mx_csv_release(mlax_engine *e, mx_csv_table *t);

/* -- batches (batches.c): rows of arrays that stand side by side --------------------------------------------------- */
typedef struct mx_batches mx_batches;
/* Rows 0 to end - 1 of the arrays, `size` at a time; in an order (int32, as long as the arrays, from 0), or NULL. */
mx_batches *mx_batches_new(mx_ctx *c, mx_array *const *arrays, int n, mx_array *order, int64_t size, int64_t end);
/* From now on a thread makes each batch while the one before is in use. Where there is no thread to be had, nothing
 * changes, for the batches are the same. */
void mx_batches_ahead(mx_batches *b);
/* One reference an array, which the caller takes and sets to NULL; NULL at the end, or with the error recorded. */
mx_array **mx_batches_next(mx_ctx *c, mx_batches *b);
void mx_batches_free(mx_batches *b);

/* -- numbers (number.c) -------------------------------------------------------------------------------------------- */
/* Reads all of the text as a decimal number (1, -2.5e-3, +.5, inf, infinity, nan in any case), rounded to nearest even.
 * The byte behind it must be readable and may not go on with the number: a separator, a line end, a quote, a blank, the
 * final zero. */
bool mx_number_parse(const char *s, size_t size, double *v);

#endif
