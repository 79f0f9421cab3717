/* ops.h: what the engine can compute. A primitive is one const record that answers each transformation's question; on
 * the primitives stand the operations that rules and api/ call (mx_add, mx_sum, mx_take, ...).
 *
 *   mx_add(c, x, y) --- promotes dtypes ---> mx_bind(c, &mx_prim_add, ...) ---> the current trace (trace/) --->
 *       eval: shape rule, view rule or kernel | stage: one equation | jvp, linearize: derivative rule | batch: batch
 * rule
 *
 * Ownership: operations and rules borrow their operands and return a borrowed result that the frame owns (array.h).
 * There is no retain, release or error handling in a rule: an operation on NULL returns NULL, and the first error is in
 * the context. C counts axes and positions from 0; negative axes are resolved before they come here.
 */
#ifndef MX_OPS_H
#define MX_OPS_H

#include "../array/array.h"

typedef enum {
#define MX_PRIMITIVE(name, family) MX_PRIM_##name,
#include "primitives.def"
  MX_PRIM_COUNT
} mx_prim_id;

typedef struct mx_dims { /* a short list of lengths or axes */
  int64_t n;
  int64_t v[MX_MAX_NDIM];
} mx_dims;

typedef struct mx_few { /* the same for at most MX_MAX_FEW: what convolutions have */
  int64_t n;
  int64_t v[5];
} mx_few;
enum { MX_MAX_FEW = 5, MX_MAX_SPATIAL = 3 };

/* What a primitive is given besides arrays: static, compared and hashed as bytes (zero it first). */
typedef union mx_params {
  struct {
    int64_t dtype;
  } convert; /* convert, bitcast, random_poisson */
  struct {
    int64_t log_space;
  } gamma; /* a flag */
  struct {
    mx_dims shape;
    int64_t dtype, axis;
  } iota;
  struct {
    mx_dims shape;
  } shape; /* broadcast, reshape */
  struct {
    mx_dims axes;
  } axes; /* transpose, reverse, reduce_*, scatter_* */
  struct {
    int64_t axis, reverse;
  } axis; /* concat, argmax, argmin, cum*, softmax ... (reverse: cum* only) */
  struct {
    mx_dims lo, hi, interior;
  } pad;
  struct {
    mx_dims start, limit, step;
  } slice;
  struct {
    mx_dims x_contract, y_contract, x_batch, y_batch;
    int64_t dtype;
  } dot;
  struct {
    mx_few strides, lo, hi, x_dilation, k_dilation; /* by spatial axis; negative padding cuts */
    mx_few x_axes, k_axes, out_axes; /* batch, feature, spatial...; of k: out feature, in feature, spatial... */
    int64_t feature_groups, batch_groups, dtype;
  } conv;
  struct {
    mx_dims window, strides, lo, hi, x_dilation, dilation;
    int64_t least;
  } window; /* by axis of x; least: select_* only */
  struct {
    int64_t size, axis, base;
  } check; /* axis: for the message, from 0 (-1: none); base: 0 or 1, + MX_INDEX_EXACT */
  struct {
    mx_dims axes;
    int64_t fill;
  } gather; /* fill: MX_GATHER_*, what ids outside give */
  struct {
    mx_dims sizes;
  } dynamic; /* dynamic_slice; dynamic_update_slice has none */
  struct {
    int64_t axis, keys;
  } sort;
  struct {
    int64_t right;
  } search;
  struct {
    int64_t lower, transpose, unit;
  } triangular; /* flags */
  struct {
    int64_t flag;
  } matrix; /* lu_solve: transpose; svd: full */
  struct {
    struct mx_programs *body;
    int64_t n_const, n_carry, length, reverse;
  } scan; /* operands: constants, carry, xs; body the same */
  struct {
    struct mx_programs *of;
    int64_t n_const[2];
  } loop; /* of: condition, body; operands: their constants, carry */
  struct {
    struct mx_programs *of;
  } branch; /* operands: index, those of every branch */
  struct {
    struct mx_programs *of;
    int64_t n_res;
  } call; /* checkpoint, custom_*: see trace/call.c */
  struct {
    struct mx_string *format;
    int64_t guarded; /* a flag: the last operand is a predicate */
  } print;
  struct {
    const char *name;
    int64_t size;
    struct mx_pairs *pairs;
  } axis_name; /* collectives; name is interned */
} mx_params;

/* What a gather gives for ids outside: the nearest position; NaN, the least, (unsigned) the greatest value or true;
 * zero. A derivative of the second is a gather of the third, whose transpose is the scatter that drops. */
enum { MX_GATHER_CLAMP, MX_GATHER_FILL, MX_GATHER_ZERO };

enum { MX_INDEX_EXACT = 2 }; /* in check.base: negative ids are outside */

/* For printing, hashing and files: the fields of a primitive's params. */
typedef enum {
  MX_FIELD_END,
  MX_FIELD_INT,
  MX_FIELD_FLAG,
  MX_FIELD_DTYPE,
  MX_FIELD_DIMS,
  MX_FIELD_NAME,
  MX_FIELD_TEXT, /* mx_string */
  MX_FIELD_PROGRAMS
} mx_field_kind;
typedef struct mx_field {
  const char *name;
  mx_field_kind kind; /* DIMS: mx_dims or mx_few */
  size_t offset;
} mx_field;

typedef struct mx_primitive mx_primitive;

/* One application of a primitive, as a rule sees it. */
typedef struct mx_op {
  const mx_primitive *prim;
  const mx_params *p;
  int n_in, n_out;
  mx_array *const *in; /* transpose: NULL for the linear operands */
  const mx_aval *const *in_aval;
  mx_array *const *out; /* derivative rules: the results; else NULL */
  const mx_aval *out_aval;
} mx_op;

#define MX_MAX_OUT 8 /* results of a primitive that is no call or control flow */

struct mx_primitive {
  const char *name;
  uint16_t id;
  uint8_t n_out;        /* 0: as many as operands (sort) */
  bool linear;          /* linear in all operands together, or (concat, select) in those that are not predicates */
  bool updates;         /* the result is the first operand but for some elements: it may lie in its place */
  uint8_t effect;       /* MX_EFFECT_* */
  uint16_t params_size; /* bytes of mx_params that count */
  const mx_field *fields;

  /* Result avals (dtype, shape) from the operands' avals; checks everything, so that kernels and rules need not. */
  bool (*shape)(mx_ctx *c, const mx_op *o, mx_aval *out);
  /* If the result is a view of operand 0 with these strides: its byte offset from it and its strides; false: it must be
   * computed. */
  bool (*view)(const mx_op *o, const int64_t *in_strides, int64_t *offset, int64_t *out_strides);
  /* d: the contribution of operand i's tangent g to the tangent of the (one) result: linear in g. NULL: the derivative
   * is zero. jvp: instead of d, for primitives with several results or with better formulas: results and tangents at
   * once; a NULL tangent is zero, on both sides. */
  mx_array *(*d)(mx_ctx *c, const mx_op *o, int i, mx_array *g);
  bool (*jvp)(mx_ctx *c, const mx_op *o, mx_array *const *tangents, mx_array **out, mx_array **out_tangents);
  /* The cotangent of linear operand i from those of the results (NULL: zero). It may still have the broadcast shape:
   * the caller sums it down to the operand's. NULL: the primitive is not linear. */
  mx_array *(*transpose)(mx_ctx *c, const mx_op *o, int i, mx_array *const *ct);
  /* For control flow, instead of transpose: the cotangents of all operands i with linear[i] at once (NULL: zero). */
  bool (*transpose_all)(mx_ctx *c, const mx_op *o, const bool *linear, mx_array *const *ct, mx_array **out);
  /* For control flow, when some operands depend on tangents (unknown): computes now what does not, records the rest on
   * the tape of the running LINEAR trace `lin`. */
  bool (*partial)(mx_ctx *c, struct mx_trace *lin, const mx_op *o, const bool *unknown, mx_array **out);
  /* o->in are whole values; axes[i] is operand i's mapped axis or -1; fills results and their mapped axes (-1: not
   * mapped). */
  bool (*batch)(mx_ctx *c, const mx_op *o, const int *axes, int64_t size, mx_array **out, int *out_axes);
  /* Floating point operations of one application. */
  double (*flops)(const mx_op *o);
};
enum { MX_EFFECT_NONE, MX_EFFECT_CHECK, MX_EFFECT_ORDERED };

#define MX_PRIMITIVE(name, family) extern const mx_primitive mx_prim_##name;
#include "primitives.def"
extern const mx_primitive *const mx_primitives[MX_PRIM_COUNT];
/* Elementwise operations that cost less than the way to memory and back: what they make may be made twice. */
bool mx_is_cheap(const mx_primitive *prim);

/* The shared error: "<transformation> of <primitive> is not defined". Returns NULL. */
void *mx_no_rule(mx_ctx *c, const mx_primitive *p, const char *transformation);

/* The one point that every operation passes (trace/bind.c). Fills n_out borrowed results. */
bool mx_bind(mx_ctx *c, const mx_primitive *prim, const mx_params *p, mx_array *const *in, int n_in, mx_array **out,
             int n_out);
/* The same for one result; NULL where an operand is NULL or it failed. */
mx_array *mx_bind1(mx_ctx *c, const mx_primitive *prim, const mx_params *p, mx_array *const *in, int n_in);

/* -- operations ---------------------------------------------------------------------------------------------------- */
/* Every elementwise primitive is mx_<name>(c, x) or mx_<name>(c, x, y): promotes, converts to the domain, binds.
 * and, or, xor, not: mx_and, ... */
#define MX_PRIMITIVE(name, family)
#define MX_ARITY_1(name)                            mx_array *mx_##name(mx_ctx *c, mx_array *x);
#define MX_ARITY_2(name)                            mx_array *mx_##name(mx_ctx *c, mx_array *x, mx_array *y);
#define MX_ELEMENTWISE(name, arity, domain, result) MX_ARITY_##arity(name)
#include "primitives.def"

/* constants: scalars that take x's dtype; filled arrays (a broadcast scalar) */
mx_array *mx_like(mx_ctx *c, mx_array *x, double v);
mx_array *mx_scalar(mx_ctx *c, int dtype, double v);
mx_array *mx_scalar_int(mx_ctx *c, int dtype, int64_t v);
mx_array *mx_full(mx_ctx *c, int dtype, const mx_dims *shape, double v);
mx_array *mx_zeros(mx_ctx *c, const mx_aval *a);
mx_array *mx_iota(mx_ctx *c, int dtype, const mx_dims *shape, int axis);
mx_array *mx_muls(mx_ctx *c, mx_array *x, double v); /* x * v, x + v with v in x's dtype */
mx_array *mx_adds(mx_ctx *c, mx_array *x, double v);

/* conversions and choice */
mx_array *mx_convert(mx_ctx *c, mx_array *x, int dtype); /* x itself where it has the dtype and is not weak */
mx_array *mx_bitcast(mx_ctx *c, mx_array *x, int dtype);
mx_array *mx_select(mx_ctx *c, mx_array *pred, mx_array *x,
                    mx_array *y); /* pred is converted to bool, x and y promoted */
mx_array *mx_stop_gradient(mx_ctx *c, mx_array *x);

/* shape; results that equal x return x */
mx_array *mx_broadcast(mx_ctx *c, mx_array *x, const mx_dims *shape);
mx_array *mx_broadcast_like(mx_ctx *c, mx_array *x, const mx_aval *a); /* to a's shape */
mx_array *mx_reshape(mx_ctx *c, mx_array *x, const mx_dims *shape);    /* sizes must agree; no -1 here */
mx_array *mx_transpose(mx_ctx *c, mx_array *x, const mx_dims *axes);
mx_array *mx_move_axis(mx_ctx *c, mx_array *x, int from, int to);
mx_array *mx_swap_axes(mx_ctx *c, mx_array *x, int a, int b);
mx_array *mx_expand(mx_ctx *c, mx_array *x, int axis);  /* a new axis of 1, at `axis` of the result */
mx_array *mx_squeeze(mx_ctx *c, mx_array *x, int axis); /* drops an axis of 1 */
mx_array *mx_reverse(mx_ctx *c, mx_array *x, const mx_dims *axes);
mx_array *mx_concat(mx_ctx *c, mx_array *const *x, int n, int axis); /* promotes */
mx_array *mx_stack(mx_ctx *c, mx_array *const *x, int n, int axis);
mx_array *mx_pad(mx_ctx *c, mx_array *x, mx_array *value, const mx_dims *lo, const mx_dims *hi,
                 const mx_dims *interior); /* interior may be NULL */
mx_array *mx_slice(mx_ctx *c, mx_array *x, const mx_dims *start, const mx_dims *limit,
                   const mx_dims *step); /* step may be NULL */
mx_array *mx_slice_axis(mx_ctx *c, mx_array *x, int axis, int64_t start, int64_t limit);
mx_array *mx_sum_to(mx_ctx *c, mx_array *x, const mx_aval *a); /* undoes a broadcast: sums down to a's shape */

/* reductions: axes NULL means all; keepdims leaves lengths of 1. sum and prod of bool and narrow integers work in int32
 * or uint32 */
mx_array *mx_sum(mx_ctx *c, mx_array *x, const mx_dims *axes, bool keepdims);
mx_array *mx_prod(mx_ctx *c, mx_array *x, const mx_dims *axes, bool keepdims);
mx_array *mx_max(mx_ctx *c, mx_array *x, const mx_dims *axes, bool keepdims);
mx_array *mx_min(mx_ctx *c, mx_array *x, const mx_dims *axes, bool keepdims);
mx_array *mx_any(mx_ctx *c, mx_array *x, const mx_dims *axes, bool keepdims);
mx_array *mx_all(mx_ctx *c, mx_array *x, const mx_dims *axes, bool keepdims);
mx_array *mx_mean(mx_ctx *c, mx_array *x, const mx_dims *axes, bool keepdims);
mx_array *mx_var(mx_ctx *c, mx_array *x, const mx_dims *axes, bool keepdims, double ddof);
mx_array *mx_argmax(mx_ctx *c, mx_array *x, int axis); /* positions from 0 */
mx_array *mx_argmin(mx_ctx *c, mx_array *x, int axis);
mx_array *mx_logsumexp(mx_ctx *c, mx_array *x, const mx_dims *axes, bool keepdims);
mx_array *mx_softmax(mx_ctx *c, mx_array *x, int axis);
mx_array *mx_log_softmax(mx_ctx *c, mx_array *x, int axis);
mx_array *mx_cumsum(mx_ctx *c, mx_array *x, int axis, bool reverse);
mx_array *mx_cumprod(mx_ctx *c, mx_array *x, int axis, bool reverse);
mx_array *mx_cummax(mx_ctx *c, mx_array *x, int axis, bool reverse);
mx_array *mx_cummin(mx_ctx *c, mx_array *x, int axis, bool reverse);

/* products: dtype -1: that of the operands */
mx_array *mx_dot_general(mx_ctx *c, mx_array *x, mx_array *y, const mx_dims *x_contract, const mx_dims *y_contract,
                         const mx_dims *x_batch, const mx_dims *y_batch, int dtype);
mx_array *mx_matmul(mx_ctx *c, mx_array *x, mx_array *y); /* NumPy's rules: batched, 1-d */

/* convolutions and windows: p as the primitive's; dtype -1: that of the operands */
mx_array *mx_conv(mx_ctx *c, mx_array *x, mx_array *k, const mx_params *p);
/* init NULL: nothing beside the windows' elements */
mx_array *mx_reduce_window(mx_ctx *c, const mx_primitive *prim, mx_array *x, mx_array *init, const mx_params *p);

/* positions from the data */
mx_array *mx_check_index(mx_ctx *c, mx_array *ids, int64_t size, int axis,
                         int base); /* any integer ids -> int32 (int64 for long axes) from 0 */
mx_array *mx_gather(mx_ctx *c, mx_array *x, mx_array *const *ids, int n, const mx_dims *axes, bool fill);
mx_array *mx_scatter(mx_ctx *c, const mx_primitive *prim, mx_array *x, mx_array *updates, mx_array *const *ids, int n,
                     const mx_dims *axes);
mx_array *mx_dynamic_slice(mx_ctx *c, mx_array *x, mx_array *starts,
                           const mx_dims *sizes); /* starts: integer[ndim] from 0, clamped */
mx_array *mx_dynamic_update_slice(mx_ctx *c, mx_array *x, mx_array *y, mx_array *starts);

/* order, random bits */
bool mx_sort(mx_ctx *c, mx_array *const *x, int n, int keys, int axis, mx_array **out);
mx_array *mx_argsort(mx_ctx *c, mx_array *x, int axis); /* int32, from 0 */
mx_array *mx_searchsorted(mx_ctx *c, mx_array *sorted, mx_array *v, bool right);
/* What api/ makes of the format and the values when they are there. */
bool mx_debug_print(mx_ctx *c, struct mx_string *format, mx_array *const *x, int n);
bool mx_threefry2x32(mx_ctx *c, mx_array *k0, mx_array *k1, mx_array *x0, mx_array *x1, mx_array *out[2]);
mx_array *mx_draw_gamma(mx_ctx *c, mx_array *k0, mx_array *k1, mx_array *a, bool log_space);
mx_array *mx_draw_poisson(mx_ctx *c, mx_array *key, mx_array *rate, int dtype); /* uint32[2], float32[n] */

/* linear algebra, of the matrices in the last two axes; integers are converted to float32, halves are refused */
mx_array *mx_cholesky(mx_ctx *c, mx_array *x); /* of (x + xT) / 2 */
mx_array *mx_triangular_solve(mx_ctx *c, mx_array *a, mx_array *b, bool lower, bool transpose,
                              bool unit); /* b: a vector if 1-d */
mx_array *mx_solve(mx_ctx *c, mx_array *a, mx_array *b);
mx_array *mx_inv(mx_ctx *c, mx_array *x);
mx_array *mx_det(mx_ctx *c, mx_array *x);
mx_array *mx_pinv(mx_ctx *c, mx_array *x);
bool mx_slogdet(mx_ctx *c, mx_array *x, mx_array *out[2]); /* sign, log |det| */
bool mx_qr(mx_ctx *c, mx_array *x, mx_array *out[2]);
bool mx_svd(mx_ctx *c, mx_array *x, bool full, mx_array *out[3]);
bool mx_eigh(mx_ctx *c, mx_array *x, mx_array *out[2]); /* of (x + xT) / 2 */

/* -- dims ---------------------------------------------------------------------------------------------------------- */
mx_dims mx_dims_of(int n, const int64_t *v);
mx_dims mx_dims_shape(const mx_aval *a);
bool mx_dims_has(const mx_dims *d, int64_t v);
mx_dims mx_dims_range(int n); /* 0 .. n-1 */
mx_dims mx_dims_insert(const mx_dims *d, int at, int64_t v);
mx_dims mx_dims_remove(const mx_dims *d, int at);

#endif
