/* tree.h: pytrees. A treedef is the interned structure of a tree (equal structures are one object); a flat is a list of
 * leaves with the treedefs they hang on.
 *
 *     {w = W, b = {1.5, "relu"}}      def: dict(b: list(*, *), w: *)        leaves: 1.5, "relu", W
 *
 * A flat is a Lua userdata that anchors its arrays, other values and treedefs. Modules that mx_flat_build makes are
 * packed: they keep a reference to the flat and their place in it, and their fields come into being when Lua first
 * touches them; mx_flat_add of an untouched one copies its leaves and takes its def without a walk.
 */
#ifndef MX_TREE_H
#define MX_TREE_H

#include "api.h"

typedef enum { MX_LEAF_ARRAY, MX_LEAF_FLOAT, MX_LEAF_INT, MX_LEAF_BOOL, MX_LEAF_OTHER } mx_leaf_kind;

typedef struct mx_leaf {
  mx_leaf_kind kind;
  union {
    mx_array *array; /* retained by the flat */
    lua_Number number;
    lua_Integer integer;
    bool boolean;
    const void *identity; /* OTHER: lua_topointer or the interned string; the value is in the flat's table, at the
                             leaf's position */
  };
} mx_leaf;

/* An interned node; valid while its Lua object lives (a flat anchors its own). The root nil has kind MX_NODE_NIL and no
 * leaves. */
typedef struct mx_treedef mx_treedef;
int mx_treedef_leaves(const mx_treedef *def);
bool mx_treedef_is_unset(const mx_treedef *def); /* a Module that has not been set up */
const mx_treedef *mx_treedef_leaf(lua_State *L); /* that of a single leaf */
bool mx_is_module(lua_State *L, int idx);        /* module.c */

typedef struct mx_flat {
  int n, cap, n_roots, roots_cap;
  mx_leaf *leaves;
  struct mx_root {
    const mx_treedef *def;
    int first; /* its first leaf */
  } * roots;
} mx_flat;

mx_flat *mx_flat_new(lua_State *L); /* empty. [-0, +1] */
mx_flat *mx_flat_at(lua_State *L, int idx);
/* Empty again, its memory kept; not for a flat that has built a module, which may be packed and point into it. [-0, +0]
 */
void mx_flat_clear(lua_State *L, int flat);
/* Flattens the value at `idx` behind what the flat at `flat` holds; returns the root's number. Raises, naming the path,
 * on holes, cycles, foreign metatables, depth. [-0, +0] */
int mx_flat_add(lua_State *L, int flat, int idx);
/* Adds root `root` of the flat at `like` with no leaves set: mx_leaf_set fills them (all of them, before build). [-0,
 * +0] */
int mx_flat_like(lua_State *L, int flat, int like, int root);
void mx_leaf_set_array(lua_State *L, int flat, int leaf, mx_array *x); /* retains */
void mx_leaf_set_value(lua_State *L, int flat, int leaf, int idx);     /* any Lua value */
void mx_leaf_copy(lua_State *L, int to, int leaf, int from, int from_leaf);
void mx_leaf_push(lua_State *L, int flat, int leaf); /* [-0, +1] */
/* The tree of a root. [-0, +1] */
void mx_flat_build(lua_State *L, int flat, int root);
/* Lua accessor text of a root's leaf, counted from the root's first ("layers.data[2].kernel.data"; "" for the root
 * itself). [-0, +1] */
void mx_flat_path(lua_State *L, int flat, int root, int leaf);
/* Says, as text, the first path at which two roots' structures differ and both sides; nil where they do not. [-0, +1]
 */
void mx_flat_difference(lua_State *L, int flat_a, int root_a, int flat_b, int root_b);
/* Lists `in_axes` style prefix trees: for the tree at `prefix` (false is a value; one entry may stand for a whole
 * subtree) calls set(ud, leaf, prefix_value_index) for each leaf of the root, counted from its first, with the
 * governing entry on the stack. Raises where it does not fit. */
void mx_flat_prefix(lua_State *L, int flat, int root, int prefix,
                    void (*set)(lua_State *L, void *ud, int leaf, int value), void *ud);

/* module.c: for error messages: pushes " in model.layers.data[2] (Linear)" or "" for the running module calls. [-0, +1]
 */
void mx_module_where(lua_State *L);
/* The serial of the trace that x belongs to, 0 for a value; modules compare it with the one they were made in. */
uint64_t mx_trace_serial(const mx_array *x);

#endif
