/* api.h: what the files of api/ share: the state, entering and leaving C, arguments, errors, registration.
 *
 * A function that Lua calls checks its arguments, calls, pushes, returns:
 *
 *     static int larray_sum(lua_State *L) {
 *       mx_ctx *c = mx_enter(L, "sum");
 *       int options = mx_args(L, 1, 1);                          // stack: x, axes or nil, options or nil
 *       struct { bool keepdims; int dtype; } o = {false, -1};
 *       mx_options(L, options, sum_options, &o);
 *       mx_array *x = mx_check_array(L, 1, "x");
 *       mx_dims axes;
 *       bool some = mx_check_axes(L, 2, x->aval.ndim, &axes);    // false: nil, all axes
 *       return mx_push(L, mx_sum(c, x, some ? &axes : NULL, o.keepdims));
 *     }
 *
 * Lua errors are raised by mx_raise (what is pending in the context) and mx_error (an argument), nowhere else; both put
 * "file:line: op: " before the text, with the user's own line. Temporaries lie in the context's frame, which mx_enter
 * sweeps, so a longjmp loses nothing.
 */
#ifndef MX_API_H
#define MX_API_H

#include "../mlax_lua.h"
#include "../trace/trace.h"

#include <lauxlib.h>
#include <lua.h>

/* When garbage is collected. */
typedef struct mx_pace {
  size_t ceiling; /* live bytes of the engine at which the next collection comes */
  size_t budget;  /* bytes of growth between collections */
  double ended;   /* when the last one did, in seconds */
  double mark;    /* seconds for a kilobyte of Lua's heap */
} mx_pace;

typedef struct mx_state {
  mx_ctx ctx;
  lua_State *L;                                                                  /* the Lua thread that entered last */
  const void *array_meta, *flat_meta, *treedef_meta, *parameter_meta, *jit_meta; /* lua_topointer of our metatables */
  mx_pace young, all; /* collections by steps, and of everything */
  double found;       /* when the collection that runs found its first array, in seconds */
  int64_t freed;      /* arrays, by that collection */
  bool incremental;   /* a collector that was generational is not, for now (state.c) */
  bool in_gc;         /* a collection that we asked for runs: no second one inside */
  bool raising;       /* the error value kept in the state's user value is on its way: its first traceback stands */
  bool hosted;        /* a program that embeds mlax has this state: no thread starts without being asked for */
  int scopes;         /* open scopes: results are noted in the innermost one */
  int entry;          /* the frame's mark at the last mx_enter: mx_return sweeps down to it */
  long forks;      /* forks of this process when the state was made: a child's engine is asked whether it may go on */
  const char *own; /* mlax's own directory (anchored in a user value): its chunks are no user lines; NULL: embedded */
  size_t own_length;
  struct mx_calls *calls; /* the stack of module calls (module.c) */
  struct mx_trees *trees; /* the interned treedefs (treedef.c) */
  mx_print_options print;
} mx_state;

/* Every C function of ours carries the state as its first upvalue. */
#define MX_STATE(L) ((mx_state *)lua_touserdata((L), lua_upvalueindex(1)))
mx_state *
mx_state_of(lua_State *L); /* from the registry, for functions without the upvalue; NULL: mlax is not loaded */

/* -- enter and leave (state.c) ------------------------------------------------------------------------------------- */
/* First thing in each function: names the operation, sweeps the frame, checks for fork, collects garbage. Returns the
 * context. */
mx_ctx *mx_enter(lua_State *L, const char *op);
/* Pushes x as an array; NULL raises what is pending. Returns 1. [-0, +1] */
int mx_push(lua_State *L, mx_array *x);
/* The same as the last act of a function: its temporaries are released at once. */
int mx_return(lua_State *L, mx_array *x);
/* true: nothing; false raises what is pending. */
void mx_ok(lua_State *L, bool ok);
int mx_raise(lua_State *L);                                                                /* does not return */
int mx_error(lua_State *L, const char *format, ...) __attribute__((format(printf, 2, 3))); /* does not return */
/* scope.c: notes the box on top of the stack, which holds x, in the innermost open scope if the running operation made
 * x. [-0, +0] */
void mx_scope_note(lua_State *L, mx_array *x);
/* Seconds, of a clock that never goes back. */
double mx_seconds(void);
/* Gives the userdata below the metatable on top, whose __gc frees what C hangs on it: anchor first, then acquire. [-1,
 * +0] */
void mx_own(lua_State *L);
/* Pushes the user's own innermost line as "file:line: ", or "". [-0, +1] */
void mx_push_where(lua_State *L);
/* The Lua stack of the first raise of the error value at idx, or nil. [-0, +1] */
void mx_push_traceback(lua_State *L, int idx);
/* `nil, message`, for files and devices; takes what is pending. Errors that are no MLAX_IO, MLAX_FORMAT, MLAX_DEVICE
 * raise. [-0, +2] */
int mx_fail_pair(lua_State *L);
/* Calls the user function below nargs arguments: lua_pcall with a handler that keeps the traceback of the first raise,
 * with the frame raised. On failure the error value is kept, MLAX_LUA is pending, and false comes back. [-(nargs+1),
 * +nresults or 0] */
bool mx_call(lua_State *L, int nargs, int nresults);

/* -- arguments (args.c); all raise, naming `what` ------------------------------------------------------------------ */
/* Settles the stack to required + optional + 1 slots: the last one is the options table or nil (its index is returned).
 * A table with string keys in the place of an optional argument is the options table. Extra arguments raise. */
int mx_args(lua_State *L, int required, int optional);
typedef enum { MX_OPT_BOOL, MX_OPT_INT, MX_OPT_NUMBER, MX_OPT_DTYPE, MX_OPT_STRING, MX_OPT_VALUE } mx_option_kind;
typedef struct mx_option {
  const char *name; /* NULL ends the list */
  mx_option_kind kind;
  size_t offset; /* bool, int64_t, double, int (dtype), const char *; VALUE: int, the stack index where the value was
                    pushed, 0: absent */
} mx_option;
/* Reads the table at idx (nil: nothing) into `to`; an unknown key raises, lists the known ones and guesses. VALUE
 * options are pushed. */
void mx_options(lua_State *L, int idx, const mx_option *known, void *to);
void mx_no_options(lua_State *L, int idx); /* a function without options: anything but nil raises */
/* The error of an unknown word: "unknown option 'x', did you mean 'y'? (known: ...)"; does not return. */
int mx_unknown(lua_State *L, const char *kind, const char *word, const char *const *known, int n);
const char *mx_guess(const char *word, const char *const *known, int n); /* the nearest by edit distance, or NULL */

bool mx_is_array(lua_State *L, int idx);
mx_array *mx_to_array(lua_State *L, int idx); /* NULL: no array. Freed ones too: see mx_usable */
mx_array *mx_check_array(lua_State *L, int idx,
                         const char *what); /* an array, or a number or boolean as a weak scalar (in the frame) */
mx_array *mx_check_strict(lua_State *L, int idx, const char *what); /* an array, nothing else */
/* Two operands of which at least one is an array; a Lua number takes the other's dtype by the rules of weak numbers. */
void mx_check_pair(lua_State *L, int i, int j, mx_array **x, mx_array **y);
int64_t mx_check_int(lua_State *L, int idx, const char *what); /* 5.0 is taken for 5, 5.5 raises */
double mx_check_number(lua_State *L, int idx, const char *what);
bool mx_check_bool(lua_State *L, int idx, const char *what);
int mx_check_dtype(lua_State *L, int idx, int otherwise); /* a name; nil: otherwise (-1: required) */
int mx_check_axis(lua_State *L, int idx, int ndim);       /* from 1 or -1 in Lua -> from 0; 0 and out of range raise */
bool mx_check_axes(lua_State *L, int idx, int ndim,
                   mx_dims *axes); /* a number or a list; nil: false. Duplicates raise */
void mx_check_shape(lua_State *L, int idx, mx_dims *shape, const char *what);
void mx_check_ints(lua_State *L, int idx, mx_dims *list, const char *what); /* a list of integers, of any sign */
int64_t mx_check_length(lua_State *L, int idx, const char *what); /* a list: its length; holes and other keys raise */
bool mx_read_int(lua_State *L, int idx, int64_t *v);              /* a number with an integer value */
const char *mx_show(lua_State *L, int idx); /* a short text of a value for messages, left on the stack. [-0, +1] */
/* A number or boolean beside an array of this dtype, by the rules of weak numbers. In the frame. */
mx_array *mx_weak_number(lua_State *L, int idx, const mx_aval *beside);
bool mx_is_plain_table(lua_State *L, int idx); /* a table without metatable */

/* -- arrays (array.c) ---------------------------------------------------------------------------------------------- */
mx_array **mx_push_box(lua_State *L); /* an array userdata still without array: anchor first, then acquire. [-0, +1] */
/* Lua value of an element: integer, float or boolean. [-0, +1] */
void mx_push_element(lua_State *L, int dtype, const void *p);

/* -- registration (state.c) ---------------------------------------------------------------------------------------- */
enum {
  MX_IN_MLAX = 1,
  MX_IN_METHODS = 2,
  MX_IN_LAX = 4,
  MX_IN_CORE = 8,
  MX_IN_RANDOM = 16,
  MX_IN_TREE = 32,
  MX_IN_BOTH = 3
};
typedef struct mx_reg {
  const char *name; /* NULL ends the list */
  lua_CFunction function;
  int where; /* MX_IN_* */
} mx_reg;
/* Stack: the core table on top, with fields methods, lax, random, tree, mlax. Adds each function with the state as
 * upvalue. [-0, +0] */
void mx_register(lua_State *L, const mx_reg *list);
/* One opener a file, called in order by luaopen_mlax_core; stack as above. [-0, +0] */
void mx_open_array(lua_State *L);     /* array.c: userdata, fields, operators */
void mx_open_create(lua_State *L);    /* create.c: array, zeros, range, from_string, ... */
void mx_open_index(lua_State *L);     /* index.c: x[...], at, take, ... */
void mx_open_functions(lua_State *L); /* functions.c: elementwise, reductions, shape, products */
void mx_open_random(lua_State *L);
void mx_open_tree(lua_State *L);
void mx_open_module(lua_State *L);
void mx_open_transform(lua_State *L); /* grad, vmap, ... */
void mx_open_jit(lua_State *L);
void mx_open_io(lua_State *L);
void mx_open_batches(lua_State *L);
void mx_open_files(lua_State *L);  /* files.c: files of arrays, directories; opened by io.c */
void mx_open_system(lua_State *L); /* memory, threads, devices, scopes */
void mx_open_debug(lua_State *L);
void mx_open_scope(lua_State *L); /* scope.c, opened by system.c */
void mx_open_profile(lua_State *L);

#endif
