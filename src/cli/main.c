/* main.c: the program `mlax`: runs Lua scripts with the engine and all its Lua sources inside.
 *
 * All Lua work happens in one protected call, whose handler makes the message with its traceback; what comes out is
 * printed here, and nowhere below. Ctrl-C interrupts the engine and, by a hook, the script; a second one ends the
 * process. */
#include "../api/api.h"
#include "../api/embedded.h"

#include <lualib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static const char usage[] = "usage: mlax [options] [script [args]]\n"
                            "  -e CODE     run the Lua code (mlax is a global there); may be repeated\n"
                            "  -i          stay in a session after the script (not in this version)\n"
                            "  -           run standard input\n"
                            "  -v          print the version\n"
                            "  --help      print this\n"
                            "  --          end of options\n"
                            "  check FILE  warn of suspicious conditions (not in this version)\n";

/* -- interrupts ---------------------------------------------------------------------------------------------------- */

static mlax_engine *running_engine; /* the handler's: written before it is installed */
static lua_State *running_state;

static void stop_hook(lua_State *L, lua_Debug *ar) {
  (void)ar;
  lua_sethook(L, NULL, 0, 0);
  luaL_error(L, "interrupted");
}

static void on_interrupt(int signal_number) {
  signal(signal_number, SIG_DFL);
  mlax_interrupt(running_engine);
  lua_sethook(running_state, stop_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

/* -- errors -------------------------------------------------------------------------------------------------------- */

static bool is_own(const lua_Debug *ar) { return strncmp(ar->source, "@mlax:", 6) == 0; }

static void frame_add(lua_State *L, luaL_Buffer *b, lua_Debug *ar) {
  lua_pushfstring(L, "\n\t%s:", ar->short_src);
  luaL_addvalue(b);
  if (ar->currentline > 0) {
    lua_pushfstring(L, "%d:", ar->currentline);
    luaL_addvalue(b);
  }
  if (*ar->what == 'm') luaL_addstring(b, " in main chunk");
  else if (*ar->namewhat) {
    lua_pushfstring(L, " in %s '%s'", *ar->namewhat == 'g' ? "function" : ar->namewhat, ar->name);
    luaL_addvalue(b);
  } else if (*ar->what == 'C') luaL_addstring(b, " in ?");
  else {
    lua_pushfstring(L, " in function <%s:%d>", ar->short_src, ar->linedefined);
    luaL_addvalue(b);
  }
}

/* Pushes the traceback of L's running functions without mlax's own frames and the C functions that they and we call.
 * [-0, +1] */
static void traceback_push(lua_State *L) {
  enum { MOST = 40 };
  luaL_Buffer b;
  lua_Debug ar;
  int shown = 0;
  bool user = true; /* is the frame above, nearer to the error, one of the user's? */
  luaL_buffinit(L, &b);
  luaL_addstring(&b, "\nstack traceback:");
  for (int level = 1; lua_getstack(L, level, &ar) && shown < MOST; level++) {
    lua_getinfo(L, "Slnt", &ar);
    bool c = *ar.what == 'C';
    if (is_own(&ar) || (c && (!user || !*ar.namewhat))) {
      user = false;
      continue;
    }
    user = true;
    frame_add(L, &b, &ar);
    if (ar.istailcall) luaL_addstring(&b, "\n\t(...tail calls...)");
    shown++;
  }
  if (shown == MOST) luaL_addstring(&b, "\n\t...");
  luaL_pushresult(&b);
  if (shown == 0) {
    lua_pop(L, 1);
    lua_pushliteral(L, "");
  }
}

/* The stack of the error's first raise, where it passed through mlax; else that of now. [-0, +1] */
static void stack_push(lua_State *L, int error) {
  if (mx_state_of(L)) {
    mx_push_traceback(L, error);
    if (lua_isstring(L, -1)) {
      lua_pushliteral(L, "\n");
      lua_insert(L, -2);
      lua_concat(L, 2);
      return;
    }
    lua_pop(L, 1);
  }
  traceback_push(L);
}

/* The message handler. [-1, +1] */
static int message_make(lua_State *L) {
  const char *text = lua_tostring(L, 1);
  if (!text && luaL_callmeta(L, 1, "__tostring")) text = lua_tostring(L, -1);
  if (!text) text = lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
  lua_pushstring(L, text);
  stack_push(L, 1);
  lua_concat(L, 2);
  return 1;
}

/* -- the command line ---------------------------------------------------------------------------------------------- */

typedef struct {
  int argc;
  char **argv;
  int script; /* index of FILE or "-"; argc: none */
  bool code;  /* there is an -e */
  bool version, help;
  int status;
} command;

static int refuse(command *o, const char *what, const char *word) {
  fprintf(stderr, "mlax: %s%s%s%s\n", what, word ? " '" : "", word ? word : "", word ? "'" : "");
  return o->status = EXIT_FAILURE;
}

/* True: there is something to run. */
static bool command_read(command *o) {
  int i = 1;
  bool stay = false;
  for (; i < o->argc && o->argv[i][0] == '-' && o->argv[i][1]; i++) {
    const char *a = o->argv[i];
    if (strcmp(a, "--") == 0) {
      i++;
      break;
    }
    if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0) o->help = true;
    else if (strcmp(a, "-v") == 0 || strcmp(a, "--version") == 0) o->version = true;
    else if (strcmp(a, "-i") == 0) stay = true;
    else if (strncmp(a, "-e", 2) == 0) {
      o->code = true;
      if (!a[2] && ++i == o->argc) return refuse(o, "'-e' needs code", NULL), fputs(usage, stderr), false;
    } else return refuse(o, "unknown option", a), fputs(usage, stderr), false;
  }
  o->script = i;
  if (o->help || o->version) return false;
  if (stay) return refuse(o, "the interactive session (-i) is not in this version", NULL), false;
  if (i < o->argc && strcmp(o->argv[i], "check") == 0 && i + 1 < o->argc)
    return refuse(o, "'check' is not in this version", NULL), false;
  if (i == o->argc && !o->code)
    return refuse(o, "the interactive session is not in this version; 'mlax --help' says more", NULL), false;
  return true;
}

/* Global `arg`, as lua's: the script at 0, its arguments from 1, what stands before it below 0. */
static void arg_set(lua_State *L, const command *o) {
  int zero = o->script < o->argc ? o->script : 0;
  lua_createtable(L, o->argc - zero, zero + 1);
  for (int i = 0; i < o->argc; i++) {
    lua_pushstring(L, o->argv[i]);
    lua_rawseti(L, -2, i - zero);
  }
  lua_setglobal(L, "arg");
}

static void code_run(lua_State *L, const command *o) {
  for (int i = 1; i < o->script; i++) {
    const char *a = o->argv[i];
    if (strncmp(a, "-e", 2) != 0) continue;
    const char *code = a[2] ? a + 2 : o->argv[++i];
    if (luaL_loadbuffer(L, code, strlen(code), "=(command line)") != LUA_OK) lua_error(L);
    lua_call(L, 0, 0);
  }
}

static void script_run(lua_State *L, const command *o) {
  const char *file = o->argv[o->script];
  if (luaL_loadfile(L, strcmp(file, "-") == 0 ? NULL : file) != LUA_OK) lua_error(L);
  int n = o->argc - o->script - 1;
  luaL_checkstack(L, n, "too many arguments");
  for (int i = 1; i <= n; i++) lua_pushstring(L, o->argv[o->script + i]);
  lua_call(L, n, 0);
}

static int main_protected(lua_State *L) {
  const command *o = lua_touserdata(L, 1);
  luaL_checkversion(L);
  luaL_openlibs(L);
  lua_gc(L, LUA_GCGEN, 0, 0); /* as in the lua program */
  mlax_attach(L, running_engine);
  mx_state_of(L)->hosted = false; /* the program is its own host */
  mx_embedded_install(L);
  arg_set(L, o);
  if (o->code) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "mlax");
    lua_call(L, 1, 1);
    lua_setglobal(L, "mlax");
    code_run(L, o);
  }
  if (o->script < o->argc) script_run(L, o);
  return 0;
}

static int state_run(command *o) {
  lua_State *L = luaL_newstate();
  if (!L) return refuse(o, "not enough memory", NULL);
  running_state = L;
  signal(SIGINT, on_interrupt);
  lua_pushcfunction(L, message_make);
  lua_pushcfunction(L, main_protected);
  lua_pushlightuserdata(L, o);
  if (lua_pcall(L, 1, 0, 1) != LUA_OK) refuse(o, lua_tostring(L, -1), NULL);
  signal(SIGINT, SIG_DFL);
  lua_close(L);
  return o->status;
}

int main(int argc, char **argv) {
  command o = {.argc = argc, .argv = argv, .status = EXIT_SUCCESS};
  bool run = command_read(&o);
  if (o.help) fputs(usage, stdout);
  else if (o.version) puts("mlax " MLAX_VERSION " (" LUA_RELEASE ")");
  if (!run) return o.status;
  mlax_error error;
  mlax_options options = MLAX_OPTIONS;
  if (mlax_engine_new(&options, &running_engine, &error) != MLAX_OK) return refuse(&o, error.text, NULL);
  state_run(&o);
  mlax_engine_release(running_engine);
  return o.status;
}
