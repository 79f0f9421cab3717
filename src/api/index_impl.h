/* index_impl.h: what an index says of each axis: shared by reading (index.c), updating (update.c) and taking (take.c).
 */
#ifndef MX_INDEX_IMPL_H
#define MX_INDEX_IMPL_H

#include "array_impl.h"

typedef enum { MX_IX_INT, MX_IX_SLICE, MX_IX_ARRAY, MX_IX_NEW, MX_IX_REST } mx_ix_kind;

typedef struct mx_ix_item {
  mx_ix_kind kind;
  int axis;                  /* of x; NEW: none */
  int64_t first, last, step; /* as written: from 1, or from -1 backwards */
  bool has_first, has_last;
  int64_t start, count; /* INT, SLICE: the first position from 0, and how many */
  mx_array *ids;        /* ARRAY: positions; of a mask: from 0, inside the axis */
  int64_t mask;         /* ARRAY of a mask: its length on this axis; else -1 */
} mx_ix_item;

/* After mx_ix_read there is exactly one INT, SLICE or ARRAY item an axis, in order, and NEW items between them. */
typedef struct mx_ix {
  int n;
  bool arrays; /* there is an ARRAY item: then INT items take part in the placement, as in NumPy */
  mx_ix_item items[3 * MX_MAX_NDIM + 2];
} mx_ix;

/* Reads the key at idx for x; raises on everything that does not fit. */
void mx_ix_read(lua_State *L, mx_array *x, int idx, mx_ix *ix);
/* Index arrays stand together (nothing but integers between them): their axes go to the place of the first. */
bool mx_ix_adjacent(const mx_ix *ix, int *first);
/* An ARRAY item's positions from 0, checked. */
mx_array *mx_ix_ids(mx_ctx *c, const mx_array *x, const mx_ix_item *item);
/* The part of x that INT and SLICE items pick, with x's axes (ARRAY axes whole). */
mx_array *mx_ix_region(mx_ctx *c, mx_array *x, const mx_ix *ix);

/* nonzero: the positions (from 0, row-major) of the n true elements: one int32 vector an axis, in the frame. */
void mx_nonzero(lua_State *L, mx_array *x, mx_array **out);
/* A constant int32 (int64 where it must be) vector. */
mx_array *mx_const_ids(lua_State *L, int64_t n, const int64_t *v);
/* ids from 1 to size, no negative ones; from 0 afterwards. */
mx_array *mx_ids_exact(mx_ctx *c, mx_array *ids, int64_t size, int axis);

void mx_open_update(lua_State *L);
void mx_open_take(lua_State *L);

#endif
