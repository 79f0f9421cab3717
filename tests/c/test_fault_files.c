/* test_fault_files.c: no failing call of the file system loses a file. The cases of tests/fault/cases.lua that use
 * files run with the n-th call of the engine's file table failing, for every n, and with all from the n-th on: each
 * succeeds or says what it cannot do; every file that was opened is closed; and what stood there before is there
 * still, or what was to take its place. */
#include "api/api.h"

#include <errno.h>
#include <lualib.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

/* -- the file table ------------------------------------------------------------------------------------------------ */

static struct {
  long count, at, failed; /* calls since armed; the one that fails, 0: none */
  bool onwards, removing; /* all after it, too; a removal was among them */
  long open;              /* files that are open */
} disk;

static long total_failures;

static bool fails(void) {
  long n = ++disk.count;
  bool now = disk.at && (n == disk.at || (disk.onwards && n > disk.at));
  disk.failed += now;
  total_failures += now;
  if (now) errno = n % 2 ? EIO : ENOSPC;
  return now;
}

static void *disk_open(void *ud, const char *path, int write) {
  void *file = fails() ? NULL : mx_stdio_files.open(ud, path, write);
  disk.open += file != NULL;
  return file;
}
static int64_t disk_length(void *ud, void *file) { return fails() ? -1 : mx_stdio_files.length(ud, file); }
static int64_t disk_read(void *ud, void *file, int64_t offset, void *to, size_t bytes) {
  return fails() ? -1 : mx_stdio_files.read(ud, file, offset, to, bytes > 7 ? bytes / 2 : bytes);
}
static int64_t disk_write(void *ud, void *file, const void *from, size_t bytes) {
  return fails() ? -1 : mx_stdio_files.write(ud, file, from, bytes > 100 ? 100 : bytes);
}
static int disk_sync(void *ud, void *file) { return fails() ? -1 : mx_stdio_files.sync(ud, file); }
static int disk_close(void *ud, void *file) {
  int r = mx_stdio_files.close(ud, file);
  disk.open--;
  return fails() ? -1 : r;
}
static int disk_rename(void *ud, const char *from, const char *to) {
  return fails() ? -1 : mx_stdio_files.rename(ud, from, to);
}
static int disk_remove(void *ud, const char *path) {
  if (!fails()) return mx_stdio_files.remove(ud, path);
  disk.removing = true;
  return -1;
}
static int disk_make(void *ud, const char *path) { return fails() ? -1 : mx_stdio_files.make_directory(ud, path); }
static int disk_list(void *ud, const char *path, int (*each)(void *arg, const char *name), void *arg) {
  return fails() ? -1 : mx_stdio_files.list(ud, path, each, arg);
}

static const mlax_files files = {sizeof files, NULL,       disk_open,   disk_length, disk_read, disk_write,
                                 disk_sync,    disk_close, disk_rename, disk_remove, disk_make, disk_list};

static void arm(long at, bool onwards) {
  disk.count = disk.failed = 0;
  disk.removing = false;
  disk.at = at;
  disk.onwards = onwards;
}

/* -- the cases ----------------------------------------------------------------------------------------------------- */

static mlax_engine *engine;
static lua_State *L;
static char folder[] = "/tmp/mlax-files-XXXXXX";

static void must(int status) {
  if (status != LUA_OK) fail_msg("%s", luaL_tolstring(L, -1, NULL));
}

static int attach_and_require(lua_State *l) {
  mlax_attach(l, engine);
  luaL_requiref(l, "mlax", luaopen_mlax, 1);
  return 0;
}

static int open_state(void **state) {
  (void)state;
  mlax_options options = MLAX_OPTIONS;
  char prefix[sizeof folder + 2];
  if (!mkdtemp(folder)) return 1;
  snprintf(prefix, sizeof prefix, "%s/x", folder);
  setenv("FAULT_FOLDER", prefix, 1);
  options.files = &files;
  options.threads = 1;
  if (mlax_engine_new(&options, &engine, NULL) != MLAX_OK) return 1;
  L = luaL_newstate();
  luaL_openlibs(L);
  lua_pushcfunction(L, attach_and_require);
  must(lua_pcall(L, 0, 0, 0));
  must(luaL_dofile(L, "tests/fault/cases.lua"));
  lua_settop(L, 1); /* stack: cases */
  return 0;
}

static int close_state(void **state) {
  (void)state;
  int failed = system(lua_pushfstring(L, "rm -rf '%s'", folder));
  lua_close(L);
  mlax_engine_release(engine);
  return failed;
}

/* Runs the function at 2 with call `at` failing; whether one did. */
static bool fail_one(const char *name, long at, bool onwards) {
  lua_pushvalue(L, 2);
  arm(at, onwards);
  int status = lua_pcall(L, 0, 0, 0);
  long failed = disk.failed;
  disk.at = 0;
  const char *text = status == LUA_OK ? "cannot" : luaL_tolstring(L, -1, NULL);
  if (!strstr(text, "cannot")) fail_msg("%s (file call %ld): the error is %s", name, at, text);
  if (status != LUA_OK && !failed) fail_msg("%s: fails without a failure: %s", name, text);
  lua_settop(L, 2);
  lua_gc(L, LUA_GCCOLLECT);
  lua_gc(L, LUA_GCCOLLECT);
  if (disk.open) fail_msg("%s (file call %ld): %ld files stay open", name, at, disk.open);
  return failed > 0;
}

static void test_cases(void **state) {
  (void)state;
  lua_settop(L, 1);
  lua_getfield(L, 1, "with_files");
  int n = (int)lua_rawlen(L, -1);
  for (int i = 1; i <= n; i++) {
    lua_settop(L, 1);
    lua_getfield(L, 1, "with_files");
    lua_rawgeti(L, -1, i);
    const char *name = lua_tostring(L, -1);
    lua_getfield(L, 1, name);
    lua_replace(L, 2);
    lua_settop(L, 2);
    for (int onwards = 0; onwards < 2; onwards++)
      for (long at = 1; fail_one(name, at, onwards); at++) {}
    lua_pushvalue(L, 2);
    must(lua_pcall(L, 0, 0, 0));
  }
}

/* -- what stood there ---------------------------------------------------------------------------------------------- */

static const char saver_code[] = "local path, kind = ...\n"
                                 "local write = kind == 'save' and mlax.save\n"
                                 "  or kind == 'npy' and function(p, t) return mlax.io.npy.save(p, t.x) end\n"
                                 "  or mlax.io.npz.save\n"
                                 "local read = kind == 'save' and mlax.load\n"
                                 "  or kind == 'npy' and function(p) return {x = assert(mlax.io.npy.load(p))} end\n"
                                 "  or mlax.io.npz.load\n"
                                 "local old, new = {x = mlax.zeros{50}}, {x = mlax.ones{50}}\n"
                                 "return function() assert(write(path, old)) end,\n"
                                 "  function() return (write(path, new)) end,\n"
                                 "  function(replaced)\n"
                                 "    local t = assert(read(path))\n"
                                 "    assert(mlax.tree.equal(t, new) or not replaced and mlax.tree.equal(t, old))\n"
                                 "  end";

static int count_name(void *arg, const char *name) {
  *(int *)arg += name[0] != '.';
  return 0;
}

static void old_or_new(const char *kind) {
  char own[sizeof folder + 8], path[sizeof folder + 16];
  bool failed = true;
  snprintf(own, sizeof own, "%s/%s", folder, kind);
  snprintf(path, sizeof path, "%s/file", own);
  lua_settop(L, 0);
  must(luaL_loadstring(L, saver_code));
  lua_pushstring(L, path);
  lua_pushstring(L, kind);
  must(lua_pcall(L, 2, 3, 0)); /* stack: write old, write new, check */
  assert_int_equal(mx_stdio_files.make_directory(NULL, own), 0);
  for (int onwards = 0; onwards < 2; onwards++, failed = true)
    for (long at = 1; failed; at++) {
      int names = 0;
      lua_pushvalue(L, 1);
      must(lua_pcall(L, 0, 0, 0));
      lua_pushvalue(L, 2);
      arm(at, onwards);
      must(lua_pcall(L, 0, 1, 0));
      failed = disk.failed > 0;
      disk.at = 0;
      lua_pushvalue(L, 3);
      lua_insert(L, -2);
      must(lua_pcall(L, 1, 0, 0));
      mx_stdio_files.list(NULL, own, count_name, &names);
      if (names != 1 && !disk.removing) fail_msg("%s (file call %ld): %d files are left", kind, at, names);
      lua_pushfstring(L, "rm -f '%s'/*.tmp", own);
      assert_int_equal(system(lua_tostring(L, -1)), 0);
      lua_settop(L, 3);
    }
  snprintf(path, sizeof path, "%s/file", own);
  remove(path);
}

static void test_old_or_new(void **state) {
  (void)state;
  lua_pushvalue(L, 1);
  int cases = luaL_ref(L, LUA_REGISTRYINDEX);
  old_or_new("save");
  old_or_new("npy");
  old_or_new("npz");
  lua_settop(L, 0);
  lua_rawgeti(L, LUA_REGISTRYINDEX, cases);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_old_or_new)};
  int failed = cmocka_run_group_tests(tests, open_state, close_state);
  fprintf(stderr, "%ld file calls failed\n", total_failures);
  return failed;
}
