/* call.h: how transformations call Lua functions. The arguments are one flat (a root an argument; a Module in the place
 * of the function is root 0, hidden); some leaves are traced, the others are handed on as they are.
 *
 *     flatten arguments -> trace/ calls mx_work_function with tracers -> trees rebuilt, f called, results flattened ->
 * trace/
 *
 * A `work` is a userdata that owns what C acquires on the way, so that a Lua error anywhere loses nothing.
 */
#ifndef MX_CALL_H
#define MX_CALL_H

#include "../compile/compile.h"
#include "tree.h"

typedef struct mx_work {
  lua_State *L;
  mlax_engine *engine;
  mx_ctx *c;
  int self, f, args,
      results; /* stack indices: this, the function, the flat of arguments, that of results (after the call) */
  bool hidden; /* root 0 of args is the function, a Module */
  int n;       /* traced leaves: */
  int *leaf;   /* their numbers in args, and */
  mx_list in;  /* their values */
  mx_list tangents, out, out_tangents, captured;
  mx_ints out_axes;
  mx_linear *linear;
  mx_program *program;
  mx_arena memory;
  void *owned; /* something else that must not be lost, and how it is freed */
  void (*free_owned)(struct mx_work *w);
  mx_array *const *tracers; /* during the call */
} mx_work;

/* Pushes a work for the function at f and the n_args arguments from `first` on; it and the flat stay on the stack. [-0,
 * +2] */
mx_work *mx_work_new(lua_State *L, int f, int first, int n_args);
/* The same over a flat that is there already. [-0, +1] */
mx_work *mx_work_over(lua_State *L, int f, int args, bool hidden);
void mx_work_done(mx_work *w); /* releases early what the collector would release later */
/* The number of arguments that the user sees, and the root of argument i (from 0). */
static inline int mx_work_args(const mx_work *w, const mx_flat *args) { return args->n_roots - w->hidden; }
static inline int mx_work_root(const mx_work *w, int i) { return i + w->hidden; }
static inline int mx_root_end(const mx_flat *f, int root) {
  return f->roots[root].first + mx_treedef_leaves(f->roots[root].def);
}

/* Adds leaf i of args to the traced ones: an array, or a number as a weak float32 scalar (int32 where `keep_int`). */
void mx_work_trace(lua_State *L, mx_work *w, int leaf, bool keep_int);
mx_function mx_work_function(mx_work *w);

/* Pushes root `root` of the flat at `like`, its array leaves taken from x[0], x[1], ... (NULL: zeros of avals); returns
 * how many. [-0, +1] */
void mx_push_results(lua_State *L, int like, int root, mx_array *const *x);
/* Pushes a flat with the roots of the one at `like`, its static leaves, and no arrays: a template that holds no memory.
 * [-0, +1] */
void mx_push_template(lua_State *L, int like);
/* The number of array leaves before root r's own. */
int mx_arrays_before(const mx_flat *f, int root);

/* Program objects (stage.c). */
mx_program **mx_check_program(lua_State *L, int idx);
void mx_push_program(lua_State *L, mx_program *p); /* retains. [-0, +1] */

void mx_open_control(lua_State *L);
void mx_open_grad(lua_State *L);
void mx_open_vmap(lua_State *L);
void mx_open_stage(lua_State *L);

#endif
