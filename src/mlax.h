/* mlax.h: the C interface of mlax that needs no Lua.
 *
 * An engine owns the memory, the threads and the files that its arrays use; there is no global state. A host makes one,
 * gives it data, reads results, and releases it:
 *
 *     mlax_engine *engine;
 *     mlax_error error;
 *     mlax_options options = MLAX_OPTIONS;
 *     options.memory_limit = (size_t)256 << 20;                   // arrays, programs and arenas together
 *     if (mlax_engine_new(&options, &engine, &error) != MLAX_OK) { fputs(error.text, stderr); return 1; }
 *
 *     float data[6] = {1, 2, 3, 4, 5, 6};
 *     int64_t shape[2] = {2, 3};                                  // row-major; C counts from 0
 *     mlax_array *x;
 *     mlax_array_copy(engine, MLAX_FLOAT32, 2, shape, data, &x, &error);
 *     ...                                                         // push it to Lua (mlax_lua.h), read results
 *     mlax_array_release(x);
 *     mlax_engine_release(engine);                                // arrays that live on keep the engine alive
 *
 * No function aborts, exits, prints or raises: each answers a status and writes its text into the caller's error.
 * Arrays are immutable and counted atomically, so threads may share them. After fork a child makes its own engine: one
 * of the parent answers MLAX_STATE.
 */
#ifndef MLAX_H
#define MLAX_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#  define MLAX_API __attribute__((visibility("default")))
#else
#  define MLAX_API
#endif

#define MLAX_VERSION "0.1.0"
#define MLAX_ABI     1

typedef struct mlax_engine mlax_engine;
typedef struct mlax_array mlax_array;

/* Stable codes; the texts beside them are not. */
typedef enum {
  MLAX_OK,
  MLAX_ARGUMENT,    /* a value that cannot be meant: an unknown option, an axis 0 */
  MLAX_SHAPE,       /* shapes or dtypes that do not fit */
  MLAX_MEMORY,      /* the allocator has none left */
  MLAX_LIMIT,       /* the engine's memory limit is reached */
  MLAX_IO,          /* a file or device cannot be opened, read or written */
  MLAX_FORMAT,      /* a file is malformed */
  MLAX_UNSUPPORTED, /* no rule or kernel for this */
  MLAX_DEVICE,      /* a device failed */
  MLAX_INTERRUPTED, /* mlax_interrupt or poll asked to stop */
  MLAX_LUA,         /* a Lua error passes through */
  MLAX_STATE        /* used at the wrong time: after a fork, a leaked traced value, a freed array */
} mlax_status;

/* The caller's; always written (MLAX_OK and "" on success), the text cut at a character. May be NULL. */
typedef struct {
  mlax_status status;
  char text[508];
} mlax_error;

/* ORDER dtype: array/dtype.c */
typedef enum {
  MLAX_BOOL,
  MLAX_INT8,
  MLAX_INT16,
  MLAX_INT32,
  MLAX_INT64,
  MLAX_UINT8,
  MLAX_UINT16,
  MLAX_UINT32,
  MLAX_UINT64,
  MLAX_FLOAT16,
  MLAX_BFLOAT16,
  MLAX_FLOAT32,
  MLAX_FLOAT64
} mlax_dtype;

/* Files as the engine sees them; a host may put its own here. `open` returns NULL and `read`, `write` return -1 on
 * failure with errno set; `sync`, `close`, `rename`, `remove` return 0 on success. `read` gives fewer bytes than asked
 * only at the end. `open` for writing makes a new file; after EEXIST it is called with another name. */
typedef struct {
  size_t size;
  void *ud;
  void *(*open)(void *ud, const char *path, int write);
  int64_t (*length)(void *ud, void *file);
  int64_t (*read)(void *ud, void *file, int64_t offset, void *to, size_t bytes);
  int64_t (*write)(void *ud, void *file, const void *from, size_t bytes);
  int (*sync)(void *ud, void *file);
  int (*close)(void *ud, void *file);
  int (*rename)(void *ud, const char *from, const char *to);
  int (*remove)(void *ud, const char *path);
  /* May be NULL where nobody wants mlax.checkpoint_manager. `make_directory` succeeds also where there is one; `list`
   * calls `each` for every name until it answers other than 0. */
  int (*make_directory)(void *ud, const char *path);
  int (*list)(void *ud, const char *path, int (*each)(void *arg, const char *name), void *arg);
} mlax_files;

enum { MLAX_DETERMINISTIC = 1 };

/* Zeroed means defaults; start from MLAX_OPTIONS, which fills `size`. */
typedef struct {
  size_t size;
  void *(*alloc)(void *ud, void *p, size_t old_size, size_t size, size_t align); /* as lua_Alloc, with alignment */
  void *alloc_ud;
  size_t memory_limit; /* bytes; 0: none */
  size_t cache_limit;  /* bytes of freed buffers kept for reuse; 0: half of the most that was in use, at least 64 MiB */
  int threads;         /* 0: as many as there are cores */
  void (*parallel_for)(void *ud, int n, void (*body)(void *arg, int i), void *arg); /* NULL: OpenMP */
  void *parallel_ud;
  int (*poll)(void *ud); /* not 0: stop; called between steps and tiles */
  void *poll_ud;
  void (*log)(void *ud, int level, const char *text); /* NULL: silent; the library never prints */
  void *log_ud;
  const mlax_files *files; /* NULL: the C library's; MLAX_NO_FILES: none */
  unsigned flags;          /* MLAX_DETERMINISTIC */
} mlax_options;

#define MLAX_OPTIONS                                                                                                   \
  { sizeof(mlax_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
#define MLAX_NO_FILES (mlax_no_files())
MLAX_API const mlax_files *mlax_no_files(void);

MLAX_API mlax_status mlax_engine_new(const mlax_options *, mlax_engine **, mlax_error *);
MLAX_API void mlax_engine_release(mlax_engine *); /* arrays keep it alive */
MLAX_API void mlax_interrupt(mlax_engine *);      /* from any thread or a signal handler */
MLAX_API int mlax_abi(void);

typedef struct {
  size_t live;   /* bytes in use by arrays, programs, arenas */
  size_t cached; /* bytes of freed buffers kept for reuse */
  size_t peak;   /* most bytes ever live at once */
  size_t limit;  /* 0: none */
} mlax_memory_info;
MLAX_API void mlax_memory(mlax_engine *, mlax_memory_info *);

/* Arrays. `copy` copies `data` (row-major); `wrap` refers to it: `release` runs once, on any thread, also on failure.
 */
MLAX_API mlax_status mlax_array_copy(mlax_engine *, mlax_dtype, int ndim, const int64_t *shape, const void *data,
                                     mlax_array **, mlax_error *);
MLAX_API mlax_status mlax_array_wrap(mlax_engine *, mlax_dtype, int ndim, const int64_t *shape, const void *data,
                                     void (*release)(void *ud), void *ud, mlax_array **, mlax_error *);
MLAX_API mlax_array *mlax_array_retain(mlax_array *); /* NULL is allowed, here and in release */
MLAX_API void mlax_array_release(mlax_array *);
MLAX_API mlax_dtype mlax_array_dtype(const mlax_array *);
MLAX_API int mlax_array_ndim(const mlax_array *);
MLAX_API const int64_t *mlax_array_shape(const mlax_array *);
/* NULL where it is not row-major on the CPU: then read. Good as long as the array, also where Lua donates it. */
MLAX_API const void *mlax_array_data(const mlax_array *);
MLAX_API mlax_status mlax_array_read(const mlax_array *, void *to, size_t bytes, mlax_error *);

#ifdef __cplusplus
}
#endif
#endif
