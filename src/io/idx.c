/* idx.c: IDX files, plain or gzip: the header's product of lengths must be what the file holds, neither more nor less.
 */
#include "io_impl.h"

typedef struct idx_header {
  mx_aval aval;
  size_t start; /* of the elements */
} idx_header;

static int idx_dtype(int code) {
  switch (code) {
  case 0x08: return MLAX_UINT8;
  case 0x09: return MLAX_INT8;
  case 0x0B: return MLAX_INT16;
  case 0x0C: return MLAX_INT32;
  case 0x0D: return MLAX_FLOAT32;
  case 0x0E: return MLAX_FLOAT64;
  default: return -1;
  }
}

static int64_t big_endian_32(const unsigned char *p) {
  return (int64_t)((uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]);
}

static bool header_read(mx_ctx *c, const char *name, const unsigned char *p, size_t size, idx_header *h) {
  if (size < 4 || p[0] || p[1]) {
    mx_fail(c, MLAX_FORMAT, "%s: this is no IDX file (need 0 0 type ndim at its start)", name);
    return false;
  }
  int dtype = idx_dtype(p[2]), ndim = p[3];
  if (dtype < 0) {
    mx_fail(c, MLAX_FORMAT, "%s: unknown IDX element type (got 0x%02X at byte 2, need 08, 09, 0B, 0C, 0D or 0E)", name,
            p[2]);
    return false;
  }
  if (ndim > MX_MAX_NDIM) {
    mx_fail(c, MLAX_FORMAT, "%s: too many axes (got %d at byte 3, need at most %d)", name, ndim, MX_MAX_NDIM);
    return false;
  }
  h->start = 4 + 4 * (size_t)ndim;
  if (size < h->start) {
    mx_fail(c, MLAX_FORMAT, "%s: the file ends inside its header (got %zu bytes, need %zu)", name, size, h->start);
    return false;
  }
  int64_t shape[MX_MAX_NDIM];
  for (int i = 0; i < ndim; i++) shape[i] = big_endian_32(p + 4 + 4 * i);
  if (mx_aval_make(c, &h->aval, dtype, ndim, shape)) return true;
  mx_clear(c);
  mx_text t;
  mx_fail(c, MLAX_FORMAT, "%s: the header's lengths overflow (got %s)", name, mx_shape_text(&t, ndim, shape));
  return false;
}

static mx_array *plain_parse(mx_ctx *c, const char *name, const void *bytes, size_t size) {
  idx_header h;
  if (!header_read(c, name, bytes, size, &h)) return NULL;
  mx_text t;
  if (size - h.start != mx_nbytes(&h.aval))
    return mx_fail(c, MLAX_FORMAT,
                   "%s: the file does not hold what its header says (got %zu bytes of elements, need %zu for %s)", name,
                   size - h.start, mx_nbytes(&h.aval), mx_aval_text(&t, &h.aval));
  mx_source source = mx_source_of(name, bytes, size);
  return mx_source_array(c, &source, h.start, &h.aval, true);
}

/* The header inside says how far to inflate: a bomb ends there. */
static mx_array *gzip_parse(mx_ctx *c, const char *name, const void *bytes, size_t size) {
  unsigned char head[4 + 4 * MX_MAX_NDIM];
  size_t n = sizeof head, limit;
  idx_header h;
  mx_bytes b;
  if (!mx_inflate_start(c, name, bytes, size, head, &n) || !header_read(c, name, head, n, &h)) return NULL;
  if (!mx_add_size(mx_nbytes(&h.aval), h.start, &limit)) return mx_fail_memory(c, SIZE_MAX);
  if (!mx_inflate(c, name, bytes, size, limit, &b)) return NULL;
  mx_array *x = plain_parse(c, name, b.data, b.size);
  mx_bytes_free(c->engine, &b);
  return x;
}

mx_array *mx_idx_parse(mx_ctx *c, const char *name, const void *bytes, size_t size) {
  return mx_is_gzip(bytes, size) ? gzip_parse(c, name, bytes, size) : plain_parse(c, name, bytes, size);
}

mx_array *mx_idx_read(mx_ctx *c, const char *path) {
  size_t size;
  void *bytes = mx_file_read(c, path, 0, &size);
  if (!bytes) return NULL;
  mx_array *x = mx_idx_parse(c, path, bytes, size);
  mx_free(c->engine, bytes, size + 1);
  return x;
}
