/* random.c: mlax.random: keys and draws. The algorithms stand in ops/random_draw.c; here positions come to count
 * from 1. (random.stream is Lua: lua/mlax/random.lua.) */
#include "../ops/random.h"
#include "api.h"

#include <limits.h>

/* -- arguments ---------------------------------------------------------------------------------------------------- */

static mx_array *check_key(lua_State *L, int idx) {
  mx_array *key = mx_is_array(L, idx) ? mx_check_strict(L, idx, "the key") : NULL;
  if (!key || key->aval.dtype != MLAX_UINT32 || key->aval.ndim != 1 || key->aval.shape[0] != 2)
    mx_error(L, "the key is no key (got %s, need uint32[2] as random.key gives)", mx_show(L, idx));
  return key;
}

/* A shape; nil: that of a scalar. */
static void check_shape(lua_State *L, int idx, mx_dims *shape) {
  *shape = (mx_dims){0};
  if (!lua_isnoneornil(L, idx)) mx_check_shape(L, idx, shape, "the shape");
}

/* A shape; nil: what the parameters broadcast to. */
static void check_shape_of(lua_State *L, int idx, const mx_array *x, const mx_array *y, mx_dims *shape) {
  mx_aval both = x->aval;
  mx_text a, b;
  if (!lua_isnoneornil(L, idx)) {
    mx_check_shape(L, idx, shape, "the shape");
    return;
  }
  if (!mx_shape_broadcast(&x->aval, &y->aval, &both))
    mx_error(L, "the parameters do not fit each other (got %s and %s)", mx_aval_text(&a, &x->aval),
             mx_aval_text(&b, &y->aval));
  *shape = mx_dims_shape(&both);
}

typedef struct dtype_option {
  int dtype;
} dtype_option;
static const mx_option dtype_options[] = {{"dtype", MX_OPT_DTYPE, offsetof(dtype_option, dtype)},
                                          {NULL, MX_OPT_BOOL, 0}};

static int check_dtype_option(lua_State *L, int options, int otherwise) {
  dtype_option o = {otherwise};
  mx_options(L, options, dtype_options, &o);
  return o.dtype;
}

/* -- keys --------------------------------------------------------------------------------------------------------- */

static int lrandom_key(lua_State *L) {
  mx_ctx *c = mx_enter(L, "random.key");
  mx_no_options(L, mx_args(L, 1, 0));
  if (mx_is_array(L, 1)) return mx_return(L, mx_random_key(c, mx_check_strict(L, 1, "the seed")));
  return mx_return(L, mx_random_key(c, mx_scalar_int(c, MLAX_INT64, mx_check_int(L, 1, "the seed"))));
}

static int64_t check_count(lua_State *L, int idx) {
  int64_t n = mx_check_int(L, idx, "the number of keys");
  if (n < 1) mx_error(L, "there is no such number of keys (got %lld, need at least 1)", (long long)n);
  return n;
}

static int lrandom_split(lua_State *L) {
  mx_ctx *c = mx_enter(L, "random.split");
  mx_no_options(L, mx_args(L, 1, 1));
  mx_array *key = check_key(L, 1);
  int64_t n = lua_isnil(L, 2) ? 2 : check_count(L, 2);
  if (n > INT_MAX / 2 || !lua_checkstack(L, (int)n + 10))
    mx_error(L, "too many results (got %lld keys; random.keys gives them in one array)", (long long)n);
  mx_array *keys = mx_random_keys(c, key, n);
  if (!keys) mx_raise(L);
  for (int64_t i = 0; i < n; i++) mx_push(L, mx_squeeze(c, mx_slice_axis(c, keys, 0, i, i + 1), 0));
  return (int)n;
}

static int lrandom_keys(lua_State *L) {
  mx_ctx *c = mx_enter(L, "random.keys");
  mx_no_options(L, mx_args(L, 2, 0));
  return mx_return(L, mx_random_keys(c, check_key(L, 1), check_count(L, 2)));
}

/* No pick, so from 0: any 32-bit number, or an array of one integer. */
static int lrandom_fold_in(lua_State *L) {
  mx_ctx *c = mx_enter(L, "random.fold_in");
  mx_no_options(L, mx_args(L, 2, 0));
  mx_array *key = check_key(L, 1);
  if (mx_is_array(L, 2)) return mx_return(L, mx_random_fold_in(c, key, mx_check_strict(L, 2, "the number")));
  int64_t n = mx_check_int(L, 2, "the number");
  if (n < 0 || n > UINT32_MAX)
    mx_error(L, "the number does not fit into 32 bits (got %lld, need 0..%lld)", (long long)n, (long long)UINT32_MAX);
  return mx_return(L, mx_random_fold_in(c, key, mx_scalar_int(c, MLAX_UINT32, n)));
}

/* -- draws -------------------------------------------------------------------------------------------------------- */

static int lrandom_bits(lua_State *L) {
  mx_ctx *c = mx_enter(L, "random.bits");
  mx_dims shape;
  mx_no_options(L, mx_args(L, 1, 2));
  check_shape(L, 2, &shape);
  return mx_return(L, mx_random_bits(c, check_key(L, 1), &shape, mx_check_dtype(L, 3, MLAX_UINT32)));
}

typedef mx_array *(*draw)(mx_ctx *c, mx_array *key, const mx_dims *shape, int dtype);

/* draw(key [, shape], {dtype=}) */
static int plain_draw(lua_State *L, const char *op, draw f) {
  mx_ctx *c = mx_enter(L, op);
  mx_dims shape;
  int dtype = check_dtype_option(L, mx_args(L, 1, 1), MLAX_FLOAT32);
  check_shape(L, 2, &shape);
  return mx_return(L, f(c, check_key(L, 1), &shape, dtype));
}

static int lrandom_normal(lua_State *L) { return plain_draw(L, "random.normal", mx_random_normal); }
static int lrandom_gumbel(lua_State *L) { return plain_draw(L, "random.gumbel", mx_random_gumbel); }
static int lrandom_exponential(lua_State *L) { return plain_draw(L, "random.exponential", mx_random_exponential); }
static int lrandom_laplace(lua_State *L) { return plain_draw(L, "random.laplace", mx_random_laplace); }
static int lrandom_cauchy(lua_State *L) { return plain_draw(L, "random.cauchy", mx_random_cauchy); }
static int lrandom_logistic(lua_State *L) { return plain_draw(L, "random.logistic", mx_random_logistic); }

typedef struct uniform_option {
  int dtype, low, high; /* low, high: stack indices */
} uniform_option;
static const mx_option uniform_options[] = {{"dtype", MX_OPT_DTYPE, offsetof(uniform_option, dtype)},
                                            {"low", MX_OPT_VALUE, offsetof(uniform_option, low)},
                                            {"high", MX_OPT_VALUE, offsetof(uniform_option, high)},
                                            {NULL, MX_OPT_BOOL, 0}};

static double bound_number(lua_State *L, int idx, double otherwise, const char *what) {
  return idx ? mx_check_number(L, idx, what) : otherwise;
}

static mx_array *bound_array(lua_State *L, mx_ctx *c, int idx, double otherwise, const char *what) {
  return idx ? mx_check_array(L, idx, what) : mx_scalar(c, MLAX_FLOAT32, otherwise);
}

static int lrandom_uniform(lua_State *L) {
  mx_ctx *c = mx_enter(L, "random.uniform");
  uniform_option o = {MLAX_FLOAT32, 0, 0};
  mx_dims shape;
  mx_options(L, mx_args(L, 1, 1), uniform_options, &o);
  check_shape(L, 2, &shape);
  mx_array *key = check_key(L, 1);
  if (!(o.low && mx_is_array(L, o.low)) && !(o.high && mx_is_array(L, o.high))) {
    double low = bound_number(L, o.low, 0, "low"), high = bound_number(L, o.high, 1, "high");
    return mx_return(L, mx_random_uniform(c, key, &shape, o.dtype, low, high));
  }
  mx_array *low = bound_array(L, c, o.low, 0, "low"), *high = bound_array(L, c, o.high, 1, "high");
  return mx_return(L, mx_random_uniform_between(c, key, &shape, o.dtype, low, high));
}

static int lrandom_truncated_normal(lua_State *L) {
  mx_ctx *c = mx_enter(L, "random.truncated_normal");
  mx_dims shape;
  int dtype = check_dtype_option(L, mx_args(L, 3, 1), MLAX_FLOAT32);
  mx_array *key = check_key(L, 1), *lo = mx_check_array(L, 2, "the lower bound"),
           *hi = mx_check_array(L, 3, "the upper bound");
  check_shape_of(L, 4, lo, hi, &shape);
  return mx_return(L, mx_random_truncated_normal(c, key, lo, hi, &shape, dtype));
}

/* A parameter of a draw: a number has the draw's precision. */
static mx_array *check_parameter(lua_State *L, mx_ctx *c, int idx, int dtype, const char *what) {
  if (lua_type(L, idx) != LUA_TNUMBER) return mx_check_array(L, idx, what);
  mx_array *x = mx_scalar(c, mx_is_float(dtype) ? dtype : MLAX_FLOAT32, lua_tonumber(L, idx));
  if (!x) mx_raise(L);
  return x;
}

/* draw(key, parameter [, shape], {dtype=}) */
typedef mx_array *(*draw_with)(mx_ctx *c, mx_array *key, mx_array *parameter, const mx_dims *shape, int dtype);

static int one_parameter(lua_State *L, const char *op, draw_with f, const char *what, int otherwise) {
  mx_ctx *c = mx_enter(L, op);
  mx_dims shape;
  int dtype = check_dtype_option(L, mx_args(L, 2, 1), otherwise);
  mx_array *key = check_key(L, 1), *parameter = check_parameter(L, c, 2, dtype, what);
  check_shape_of(L, 3, parameter, parameter, &shape);
  return mx_return(L, f(c, key, parameter, &shape, dtype));
}

static mx_array *gamma_of(mx_ctx *c, mx_array *key, mx_array *a, const mx_dims *shape, int dtype) {
  return mx_random_gamma(c, key, a, shape, dtype, false);
}

static int lrandom_gamma(lua_State *L) { return one_parameter(L, "random.gamma", gamma_of, "a", MLAX_FLOAT32); }
static int lrandom_poisson(lua_State *L) {
  return one_parameter(L, "random.poisson", mx_random_poisson, "the rate", MLAX_INT32);
}

static int lrandom_beta(lua_State *L) {
  mx_ctx *c = mx_enter(L, "random.beta");
  mx_dims shape;
  int dtype = check_dtype_option(L, mx_args(L, 3, 1), MLAX_FLOAT32);
  mx_array *key = check_key(L, 1), *a = check_parameter(L, c, 2, dtype, "a"), *b = check_parameter(L, c, 3, dtype, "b");
  check_shape_of(L, 4, a, b, &shape);
  return mx_return(L, mx_random_beta(c, key, a, b, &shape, dtype));
}

/* The shape is that of the draws, each of which is a row. */
static int lrandom_dirichlet(lua_State *L) {
  mx_ctx *c = mx_enter(L, "random.dirichlet");
  mx_dims shape;
  int dtype = check_dtype_option(L, mx_args(L, 2, 1), MLAX_FLOAT32);
  mx_array *key = check_key(L, 1), *alpha = mx_check_strict(L, 2, "alpha");
  if (lua_isnil(L, 3)) shape = mx_dims_of(alpha->aval.ndim ? alpha->aval.ndim - 1 : 0, alpha->aval.shape);
  else mx_check_shape(L, 3, &shape, "the shape");
  return mx_return(L, mx_random_dirichlet(c, key, alpha, &shape, dtype));
}

static int lrandom_bernoulli(lua_State *L) {
  mx_ctx *c = mx_enter(L, "random.bernoulli");
  mx_dims shape;
  mx_no_options(L, mx_args(L, 1, 2));
  mx_array *key = check_key(L, 1), *p = lua_isnil(L, 2) ? mx_scalar(c, MLAX_FLOAT32, 0.5) : mx_check_array(L, 2, "p");
  if (!p) mx_raise(L);
  check_shape_of(L, 3, p, p, &shape);
  return mx_return(L, mx_random_bernoulli(c, key, p, &shape));
}

/* A bound of randint: an integer that the dtype holds, or an array. uint64 takes wrapped numbers. */
static mx_array *int_bound(lua_State *L, mx_ctx *c, int idx, int dtype, const char *what) {
  if (mx_is_array(L, idx)) return mx_check_strict(L, idx, what);
  int64_t v = mx_check_int(L, idx, what);
  int bits = (int)mx_itemsize(dtype) * 8;
  bool is_signed = mx_dtype_kind(dtype) == MX_KIND_INT;
  int64_t most = bits == 64 ? INT64_MAX : (INT64_C(1) << (bits - is_signed)) - 1, least = is_signed ? -most - 1 : 0;
  if (mx_is_int(dtype) && dtype != MLAX_UINT64 && (v < least || v > most))
    mx_error(L, "%s does not fit into %s (got %lld, need %lld..%lld)", what, mx_dtype_name(dtype), (long long)v,
             (long long)least, (long long)most);
  return mx_scalar_int(c, mx_is_int(dtype) ? dtype : MLAX_INT64, v);
}

static int lrandom_randint(lua_State *L) {
  mx_ctx *c = mx_enter(L, "random.randint");
  mx_dims shape;
  int dtype = check_dtype_option(L, mx_args(L, 4, 0), MLAX_INT32);
  check_shape(L, 2, &shape);
  mx_array *low = int_bound(L, c, 3, dtype, "the lower bound"), *high = int_bound(L, c, 4, dtype, "the upper bound");
  if (lua_isnumber(L, 3) && lua_isnumber(L, 4) && dtype != MLAX_UINT64 && lua_tointeger(L, 3) > lua_tointeger(L, 4))
    mx_error(L, "the bounds leave no number (got %lld..%lld, both included)", (long long)lua_tointeger(L, 3),
             (long long)lua_tointeger(L, 4));
  return mx_return(L, mx_random_randint(c, check_key(L, 1), &shape, low, high, dtype));
}

/* -- picks: positions count from 1 -------------------------------------------------------------------------------- */

static mx_array *from_one(mx_ctx *c, mx_array *positions) { return positions ? mx_adds(c, positions, 1) : NULL; }

static int lrandom_permutation(lua_State *L) {
  mx_ctx *c = mx_enter(L, "random.permutation");
  mx_no_options(L, mx_args(L, 2, 0));
  mx_array *key = check_key(L, 1);
  if (mx_is_array(L, 2)) return mx_return(L, mx_random_shuffle(c, key, mx_check_strict(L, 2, "what is permuted")));
  return mx_return(L, from_one(c, mx_random_permutation(c, key, mx_check_int(L, 2, "the number of things"))));
}

typedef struct choice_option {
  bool replace;
  int p; /* stack index */
} choice_option;
static const mx_option choice_options[] = {{"replace", MX_OPT_BOOL, offsetof(choice_option, replace)},
                                           {"p", MX_OPT_VALUE, offsetof(choice_option, p)},
                                           {NULL, MX_OPT_BOOL, 0}};

static int lrandom_choice(lua_State *L) {
  mx_ctx *c = mx_enter(L, "random.choice");
  choice_option o = {true, 0};
  mx_dims shape, first = {.n = 1};
  mx_options(L, mx_args(L, 2, 1), choice_options, &o);
  check_shape(L, 3, &shape);
  mx_array *key = check_key(L, 1), *p = o.p ? mx_check_strict(L, o.p, "p") : NULL;
  if (!mx_is_array(L, 2)) {
    int64_t n = mx_check_int(L, 2, "the number of things");
    return mx_return(L, from_one(c, mx_random_choice(c, key, n, &shape, o.replace, p)));
  }
  mx_array *x = mx_check_strict(L, 2, "what is chosen from");
  if (x->aval.ndim == 0) mx_error(L, "a scalar has no axis to choose along (got %s)", mx_show(L, 2));
  mx_array *ids = mx_random_choice(c, key, x->aval.shape[0], &shape, o.replace, p);
  return mx_return(L, mx_gather(c, x, &ids, 1, &first, false));
}

typedef struct categorical_option {
  int axis, shape; /* stack indices */
} categorical_option;
static const mx_option categorical_options[] = {{"axis", MX_OPT_VALUE, offsetof(categorical_option, axis)},
                                                {"shape", MX_OPT_VALUE, offsetof(categorical_option, shape)},
                                                {NULL, MX_OPT_BOOL, 0}};

static int lrandom_categorical(lua_State *L) {
  mx_ctx *c = mx_enter(L, "random.categorical");
  categorical_option o = {0, 0};
  mx_dims shape;
  mx_options(L, mx_args(L, 2, 0), categorical_options, &o);
  mx_array *key = check_key(L, 1), *logits = mx_check_strict(L, 2, "logits");
  int ndim = logits->aval.ndim, axis = o.axis ? mx_check_axis(L, o.axis, ndim) : ndim - 1;
  if (ndim == 0) mx_error(L, "a scalar has no axis of classes (got %s)", mx_show(L, 2));
  if (o.shape) mx_check_shape(L, o.shape, &shape, "option 'shape'");
  return mx_return(L, from_one(c, mx_random_categorical(c, key, logits, axis, o.shape ? &shape : NULL)));
}

static const mx_reg random_functions[] = {{"key", lrandom_key, MX_IN_RANDOM},
                                          {"split", lrandom_split, MX_IN_RANDOM},
                                          {"keys", lrandom_keys, MX_IN_RANDOM},
                                          {"fold_in", lrandom_fold_in, MX_IN_RANDOM},
                                          {"bits", lrandom_bits, MX_IN_RANDOM},
                                          {"uniform", lrandom_uniform, MX_IN_RANDOM},
                                          {"normal", lrandom_normal, MX_IN_RANDOM},
                                          {"truncated_normal", lrandom_truncated_normal, MX_IN_RANDOM},
                                          {"bernoulli", lrandom_bernoulli, MX_IN_RANDOM},
                                          {"randint", lrandom_randint, MX_IN_RANDOM},
                                          {"permutation", lrandom_permutation, MX_IN_RANDOM},
                                          {"choice", lrandom_choice, MX_IN_RANDOM},
                                          {"categorical", lrandom_categorical, MX_IN_RANDOM},
                                          {"gumbel", lrandom_gumbel, MX_IN_RANDOM},
                                          {"exponential", lrandom_exponential, MX_IN_RANDOM},
                                          {"laplace", lrandom_laplace, MX_IN_RANDOM},
                                          {"cauchy", lrandom_cauchy, MX_IN_RANDOM},
                                          {"logistic", lrandom_logistic, MX_IN_RANDOM},
                                          {"gamma", lrandom_gamma, MX_IN_RANDOM},
                                          {"beta", lrandom_beta, MX_IN_RANDOM},
                                          {"dirichlet", lrandom_dirichlet, MX_IN_RANDOM},
                                          {"poisson", lrandom_poisson, MX_IN_RANDOM},
                                          {NULL, NULL, 0}};

void mx_open_random(lua_State *L) { mx_register(L, random_functions); }
