/* jit_impl.h: what the files of compiled functions share: jit_key.c (what a call is compared by) and jit.c (tracing,
 * running, the object). */
#ifndef MX_JIT_IMPL_H
#define MX_JIT_IMPL_H

#include "call.h"
#include "tree_impl.h"

typedef struct mx_key_leaf {
  mx_leaf_kind kind;
  bool traced;
  mx_aval aval;  /* of a traced leaf */
  int alias;     /* captured arrays: the first leaf that is the same array */
  mx_leaf value; /* of a static one */
} mx_key_leaf;

typedef struct mx_key_part { /* one flat: the arguments, or what was captured */
  int n, n_roots;
  mx_key_leaf *leaves;
  const mx_treedef **defs;
  const char **names; /* captured values: of the variables, by root */
} mx_key_part;

typedef struct mx_capture { /* a captured value that is no array, Parameter or Module */
  int type;                 /* Lua type */
  union {
    const void *identity;
    lua_Number number;
    lua_Integer integer;
  };
  bool is_integer;
  const char *name; /* of the variable; names live as long as the functions that capture */
} mx_capture;

typedef struct mx_bound_axis {
  const char *name; /* interned */
  int64_t size;
} mx_bound_axis;

typedef struct mx_entry {
  mx_key_part args, captured;
  int n_captures, n_in, n_axes;
  mx_capture *captures;
  mx_bound_axis *axes;      /* those of the vmaps around, innermost first */
  bool nans, deterministic; /* switches of the context */
  unsigned passes_off;
  bool *donated; /* by input; NULL: none */
  mx_program *program;
  mx_plan *plan; /* made at the first run outside other transformations */
  int anchor;    /* in the anchors table: {key of arguments, key of captured, results, captured values} */
  mx_arena memory;
  int running;  /* calls that are under way: a finalizer that they meet may call or clear the function */
  bool dropped; /* the last of them frees it */
} mx_entry;

typedef struct mx_jit {
  mlax_engine *engine;
  mx_ctx *c;
  mx_entry **entries; /* most recently used first */
  int n, cap, max, next_anchor;
  int64_t traces;
  int widest;     /* inputs and results of the widest entry so far */
  bool hidden;    /* what is compiled is a Module */
  bool explained; /* MX_JIT_EXPLAIN is set */
  int n_static, n_donated;
  int *statics, *donated; /* positions of such arguments, from 0 */
  mx_capture *captures;   /* of the running call */
  int n_captures, captures_cap;
  const char **names; /* of the variables that hold the captured arrays, Parameters and Modules: by root */
  int names_cap;
  int integer_leaf, integer_traces; /* the static integer that keeps changing */
} mx_jit;

/* User values: what is compiled; what entries anchor; the text of explain(); the flats of the last call, for the next
 * one. */
enum {
  MX_JIT_FUNCTION = 1,
  MX_JIT_ANCHORS,
  MX_JIT_EXPLAIN,
  MX_JIT_ARGS,
  MX_JIT_CAPTURED,
  MX_JIT_COUNT = MX_JIT_CAPTURED
};

mx_jit *mx_to_jit(lua_State *L, int idx);
bool mx_is_jit(lua_State *L, int idx);
void mx_entry_free(mx_entry *e);

/* -- jit_key.c ----------------------------------------------------------------------------------------------------- */
/* Fills the flat at `flat`, j->captures and j->names with what f captures; values also go to the list at `seen` (0:
 * none), so that identities stay valid as long as that. [-0, +0] */
void mx_jit_capture(lua_State *L, mx_jit *j, int f, int flat, int seen);
/* The entry that fits, now the first; NULL: none. */
mx_entry *mx_jit_find(mx_jit *j, const mx_flat *args, const mx_flat *captured);
/* The entry's key, for the call with these and what j->captures holds. */
bool mx_jit_make_key(mx_jit *j, mx_entry *e, const mx_flat *args, const mx_flat *captured);
/* Sets the text of explain(): how e's key differs from that of the entry used last. seen: a list of e's captured
 * values. stack: jit, ... [-0, +0] */
void mx_jit_explain(lua_State *L, mx_jit *j, mx_entry *e, int args, int captured, int seen);
/* The eighth trace that one integer argument causes warns, once. */
void mx_jit_watch_integers(lua_State *L, mx_jit *j, int args);

#endif
