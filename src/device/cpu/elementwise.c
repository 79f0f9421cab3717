/* elementwise.c: the kernels of the elementwise family: a loop from the tables, run by map.c. Halves are computed in
 * float32. */
#include "map.h"

/* Tenths of nanoseconds an element; what is not named takes 1 in its own width, or 100 where float64 calls libm. */
static const uint16_t tenths[MX_PRIM_COUNT] = {
    [MX_PRIM_asin] = 100,    [MX_PRIM_acos] = 100,     [MX_PRIM_atan] = 100,     [MX_PRIM_atan2] = 200,
    [MX_PRIM_erfc] = 150,    [MX_PRIM_lgamma] = 400,   [MX_PRIM_digamma] = 800,  [MX_PRIM_trigamma] = 800,
    [MX_PRIM_erf_inv] = 100, [MX_PRIM_nextafter] = 40, [MX_PRIM_pow] = 20,       [MX_PRIM_mod] = 10,
    [MX_PRIM_exp] = 3,       [MX_PRIM_log] = 3,        [MX_PRIM_tanh] = 4,       [MX_PRIM_sigmoid] = 4,
    [MX_PRIM_sin] = 8,       [MX_PRIM_cos] = 8,        [MX_PRIM_logaddexp] = 20, [MX_PRIM_loggamma_grad] = 5000,
};

static double cost(int id, int dtype, bool math) {
  double width = (double)mx_itemsize(dtype) / 4, known = tenths[id];
  if (math && dtype == MLAX_FLOAT64 && known > 0) return 10;
  return 0.1 * (known > 0 ? known : math ? 5 : 1) * width;
}

static mx_loop loop_of(int id, int dtype, bool *math) {
  int row = dtype == MLAX_FLOAT64;
  mx_loop loop = mx_is_float(dtype) ? MX_SIMD_PICK(mx_math_loops)->loop[id][row] : NULL;
  *math = loop != NULL;
  return loop ? loop : MX_SIMD_PICK(mx_arithmetic_loops)->loop[id][dtype];
}

/* x^2 by one number, which pow computes as a square anyway */
static bool is_square(const mx_kernel_args *a, int dtype) {
  return a->prim->id == MX_PRIM_pow && mx_is_float(dtype) && a->in[1].aval->size == 1 &&
         mx_load_double(dtype, a->in[1].data) == 2;
}

bool mx_cpu_elementwise(mx_ctx *c, const mx_kernel_args *a) {
  int dtype = a->in[0].aval->dtype, inside = (dtype == MLAX_FLOAT16 || dtype == MLAX_BFLOAT16) ? MLAX_FLOAT32 : dtype,
      id = a->prim->id;
  bool math, square = is_square(a, dtype);
  mx_map m = {.n_in = square ? 1 : a->n_in, .loop = loop_of(square ? MX_PRIM_square : id, inside, &math)};
  m.ns = cost(id, inside, math);
  if (inside != dtype) {
    const mx_convert_loops *convert = MX_SIMD_PICK(mx_convert_loops);
    for (int i = 0; i < m.n_in; i++) m.load[i] = convert->convert[dtype][inside];
    if (a->out->aval->dtype == dtype) m.store = convert->convert[inside][dtype];
  }
  return mx_cpu_map(c, &m, a->in, a->out);
}
