/* tree_impl.h: what the files of trees and modules share.
 *
 *     treedef.c   interned structures: hash, equality, text          walk.c   Lua value -> leaves + treedef
 *     flat.c      lists of leaves; treedef + leaves -> Lua value     path.c   paths, differences, prefixes
 *     select.c    filter, partition, combine on flats                tree.c   mlax.tree
 *     module.c    the userdata of modules, calls                     class.c  mlax.class      parameter.c  Parameters
 *
 * A module or Parameter is *packed* as long as nobody has looked into it: it is then a place in a flat (its leaves from
 * `first` on, hanging on `def`). Opened, it owns its fields, and `def` is the structure that it had when it was last
 * flattened; `changed` says that its own fields (not its children's) have another structure since.
 */
#ifndef MX_TREE_IMPL_H
#define MX_TREE_IMPL_H

#include "tree.h"

enum { MX_TREE_DEPTH = 200 };

typedef enum {
  MX_NODE_LEAF,
  MX_NODE_NIL,   /* the empty tree; only at a root */
  MX_NODE_EMPTY, /* `false` in a list or dict, no data in a Parameter */
  MX_NODE_LIST,
  MX_NODE_DICT,      /* slots: one a child, in byte order of the keys */
  MX_NODE_PARAMETER, /* one child, the data; slots: metadata, all aux */
  MX_NODE_MODULE,    /* slots: the fields in order; each is a child or aux */
  MX_NODE_CLASS      /* an object of a registered class; one aux value */
} mx_node_kind;

typedef struct mx_slot {
  const char *key; /* anchored by the treedef's list of keys (of a candidate: by the stack) */
  size_t length;
  int child; /* the number of the child, or -1: an aux value */
} mx_slot;

/* A node that asks to be interned. */
typedef struct mx_node {
  mx_node_kind kind;
  bool initialized; /* MODULE */
  int8_t trainable; /* PARAMETER: -1 nil, 0, 1 */
  int n, n_slots;
  const mx_treedef *const *children;
  const mx_slot *slots;
  int class; /* stack index: the class of a module, the metatable of a registered object; else 0 */
  int aux;   /* stack index of a table of the aux values by slot number from 1 (CLASS: [1]); 0: none. It is kept. */
} mx_node;

struct mx_treedef {
  mx_treedef *next; /* in its bucket */
  uint64_t hash;
  uint8_t kind;
  bool initialized;
  int8_t trainable;
  bool tables; /* some aux value is a plain table, which may change behind our back */
  int n, n_slots, leaves;
  const void *class; /* lua_topointer of the class */
  const mx_treedef **children;
  mx_slot *slots;
};
/* User values of a treedef. SAVED holds copies of aux tables as they were; it is AUX itself where there are none. */
enum { MX_DEF_CHILDREN = 1, MX_DEF_KEYS, MX_DEF_AUX, MX_DEF_SAVED, MX_DEF_CLASS, MX_DEF_VALUES = MX_DEF_CLASS };

typedef struct mx_trees {
  mx_treedef **buckets; /* 2^k chains, in a userdata of the registry */
  int n_buckets, count;
  const mx_treedef *leaf, *nil, *empty; /* never collected */
  const void *module_meta;
  int anchored; /* treedefs by the last walk: the next one makes room for as many */
} mx_trees;

static inline mx_trees *mx_trees_of(lua_State *L) { return mx_state_of(L)->trees; }

/* Which of our objects lies at idx, by its metatable. */
typedef enum { MX_IS_OTHER, MX_IS_ARRAY, MX_IS_PARAMETER, MX_IS_MODULE } mx_what;
static inline mx_what mx_what_is(lua_State *L, const mx_state *s, int idx) {
  if (lua_type(L, idx) != LUA_TUSERDATA || !lua_getmetatable(L, idx)) return MX_IS_OTHER;
  const void *meta = lua_topointer(L, -1);
  lua_pop(L, 1);
  if (meta == s->array_meta) return MX_IS_ARRAY;
  if (meta == s->parameter_meta) return MX_IS_PARAMETER;
  return meta == s->trees->module_meta ? MX_IS_MODULE : MX_IS_OTHER;
}

/* -- treedef.c ----------------------------------------------------------------------------------------------------- */
const mx_treedef *mx_treedef_intern(lua_State *L, const mx_node *node); /* [-0, +1] */
void mx_treedef_push(lua_State *L, const mx_treedef *def);              /* its Lua object. [-0, +1] */
const mx_treedef *mx_treedef_at(lua_State *L, int idx);                 /* NULL: no treedef */
const mx_treedef *mx_treedef_check(lua_State *L, int idx);
/* The aux value of a slot, as it was when the structure was taken. [-0, +1] */
void mx_treedef_push_aux(lua_State *L, const mx_treedef *def, int slot);
/* The class of a module or registered object. [-0, +1] */
void mx_treedef_push_class(lua_State *L, const mx_treedef *def);
/* Whether the aux values in the table at idx (by slot number from 1) equal def's. */
bool mx_treedef_same_aux(lua_State *L, const mx_treedef *def, int aux);
int mx_treedef_find(const mx_treedef *def, const char *key, size_t length); /* slot number, or -1 */
/* Readable text, cut after `most` characters (0: whole). [-0, +1] */
void mx_treedef_text(lua_State *L, const mx_treedef *def, size_t most);
/* def with other children (as many). [-0, +1] */
const mx_treedef *mx_treedef_replace(lua_State *L, const mx_treedef *def, const mx_treedef *const *children);
/* Aux values by the rules of API.md section 4. */
bool mx_value_same(lua_State *L, int a, int b, int depth);
bool mx_array_same(const mx_array *x, const mx_array *y); /* dtype, shape, values; NaN equals NaN */
void mx_value_text(lua_State *L, int idx);                /* a short text. [-0, +1] */

/* -- walk.c -------------------------------------------------------------------------------------------------------- */
/* mx_flat_add that stops where the function at `is_leaf` (0: none) gives true. */
int mx_flat_add_until(lua_State *L, int flat, int idx, int is_leaf);
/* Adds the subtrees of the value at `idx` that lie at the leaves of def; raises, naming the path, where the structures
 * differ. */
int mx_flat_add_like(lua_State *L, int flat, const mx_treedef *def, int idx);
/* Whether a table without metatable, or of a registered class, holds a Parameter or Module at any depth. */
bool mx_holds_nodes(lua_State *L, int idx);
/* Pushes {flatten, unflatten} of a registered metatable on top; false, and nothing, if it is not. [-1, +1 or 0] */
bool mx_class_spec(lua_State *L);
/* flatten(object) of the registered object at idx: its list of children and its aux. [-0, +2] */
int mx_class_flatten(lua_State *L, int idx);

/* -- flat.c -------------------------------------------------------------------------------------------------------- */
mx_leaf *mx_flat_room(lua_State *L, int flat, int n);             /* n more leaves, unset */
void mx_flat_leaf(lua_State *L, int flat, mx_what what, int idx); /* appends the value at idx as one leaf */
int mx_flat_leaf_root(lua_State *L, int flat, int first);         /* a root that is the leaf `first` */
/* Adds a root: the treedef object at stack index def; gives its number. */
int mx_flat_root(lua_State *L, int flat, int def, int first);
/* Whether some leaf holds what is no leaf (a tree, false, nil): then nothing is taken on trust. */
bool mx_flat_loose(lua_State *L, int flat);
void mx_build(lua_State *L, int flat, const mx_treedef *def, int first, uint64_t serial); /* [-0, +1] */
void mx_flat_copy(lua_State *L, int to, int from, int first, int n);                      /* appends n leaves */

/* -- path.c -------------------------------------------------------------------------------------------------------- */
/* Where a walk stands: a chain that lies in the C frames of the walk. */
typedef struct mx_segment {
  const struct mx_segment *up;
  const char *key; /* NULL: index */
  size_t length;
  lua_Integer index;
  const void *object; /* the table walked here: to tell cycles from depth */
  int depth;
  bool is_data; /* leads from a Parameter to what it holds: names in files leave it out */
} mx_segment;
void mx_path_push(lua_State *L, const mx_segment *s);                            /* [-0, +1] */
mx_segment mx_child_segment(const mx_segment *up, const mx_treedef *def, int i); /* leads from def to its child i */
void mx_path_add_key(luaL_Buffer *b, bool first, const char *key, size_t n);
void mx_path_add_index(luaL_Buffer *b, lua_Integer i);
/* The first path at which two structures differ and both sides, or nil. With `prefix`, a leaf of a stands for any
 * subtree. [-0, +1] */
void mx_treedef_difference(lua_State *L, const mx_treedef *a, const mx_treedef *b, bool prefix);
/* The path of every leaf of def in order: calls visit(ud, leaf) with the path on top. */
void mx_treedef_paths(lua_State *L, const mx_treedef *def, void (*visit)(lua_State *L, void *ud, int leaf), void *ud);
/* The same with the name that a leaf has in a file: layers.data[2].kernel.data is `layers.1.kernel`. */
void mx_treedef_names(lua_State *L, const mx_treedef *def, void (*visit)(lua_State *L, void *ud, int leaf), void *ud);
/* Pushes the path of the first Module that has not been set up, or nil. [-0, +1] */
void mx_treedef_unset(lua_State *L, const mx_treedef *def);

/* -- module.c ------------------------------------------------------------------------------------------------------ */
typedef struct mx_module {
  uint64_t serial; /* of the trace in which it was made; 0: none ran */
  const mx_treedef *def;
  int first; /* packed: its first leaf */
  bool packed, changed, initialized;
} mx_module;
/* User values. FIELDS: a table, names in order at [1..n], values at the names; packed: the flat. */
enum { MX_MODULE_FIELDS = 1, MX_MODULE_CLASS, MX_MODULE_DEF, MX_MODULE_VALUES = MX_MODULE_DEF };
mx_module *mx_to_module(lua_State *L, int idx);                                                 /* NULL: no module */
mx_module *mx_module_new(lua_State *L, uint64_t serial);                                        /* [-0, +1] */
void mx_module_pack(lua_State *L, int flat, const mx_treedef *def, int first, uint64_t serial); /* [-0, +1] */
void mx_module_open(lua_State *L, int idx, mx_module *m); /* makes fields of a packed one */
/* fields[key] = value, in a table that has its names in order at [1..n]; nil drops the name. */
void mx_fields_set(lua_State *L, int fields, int key, int value);
uint64_t mx_serial_now(lua_State *L); /* of the running trace, 0: none */
/* Raises "captured, not passed" where the value at idx belongs to a running trace younger than serial. */
void mx_check_captured(lua_State *L, uint64_t serial, int idx);
bool mx_class_is_method(lua_State *L, int key); /* whether mlax.Module has a method of that name */
void mx_class_name(lua_State *L, int idx);      /* of a class, or of a registered metatable. [-0, +1] */
bool mx_is_class(lua_State *L, int idx);
/* A key that the table lacks loads the Lua module, once, which is to fill the table. [-0, +0] */
void mx_fill_late(lua_State *L, int table, const char *module);
extern const luaL_Reg mx_module_methods[], mx_select_methods[]; /* of mlax.Module */
void mx_open_class(lua_State *L);
void mx_open_parameter(lua_State *L);
void mx_open_treedef(lua_State *L);
void mx_open_flat(lua_State *L);
void mx_open_walk(lua_State *L);

/* -- parameter.c --------------------------------------------------------------------------------------------------- */
typedef struct mx_parameter {
  uint64_t serial;
  const mx_treedef *def;
  int first;
  int8_t trainable; /* -1 nil, 0, 1 */
  bool packed, changed;
} mx_parameter;
/* DATA: nil where empty; packed: the flat. META: nil, or a table, names in order at [1..n], values at the names. */
enum { MX_PARAMETER_DATA = 1, MX_PARAMETER_META, MX_PARAMETER_DEF, MX_PARAMETER_VALUES = MX_PARAMETER_DEF };
mx_parameter *mx_to_parameter(lua_State *L, int idx);
void mx_parameter_pack(lua_State *L, int flat, const mx_treedef *def, int first, uint64_t serial); /* [-0, +1] */
void mx_parameter_open(lua_State *L, int idx, mx_parameter *p);
void mx_parameter_class(lua_State *L); /* the table mlax.Parameter. [-0, +1] */

#endif
