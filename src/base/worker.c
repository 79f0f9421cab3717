/* worker.c: a thread that does one job at a time while its owner does something else. */
#include "base_impl.h"

#include <pthread.h>
#include <signal.h>

typedef enum { IDLE, BUSY, ENDING } worker_state;

struct mx_worker {
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  worker_state state;
  void (*run)(void *arg);
  void *arg;
};

static void *work(void *ud) {
  mx_worker *w = ud;
  pthread_mutex_lock(&w->lock);
  while (w->state != ENDING) {
    if (w->state == IDLE) {
      pthread_cond_wait(&w->changed, &w->lock);
      continue;
    }
    pthread_mutex_unlock(&w->lock);
    w->run(w->arg);
    pthread_mutex_lock(&w->lock);
    if (w->state == BUSY) w->state = IDLE;
    pthread_cond_broadcast(&w->changed);
  }
  pthread_mutex_unlock(&w->lock);
  return NULL;
}

/* Signals are the host's: none is handled in a thread of ours. */
static bool start(mx_worker *w) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  bool ok = pthread_create(&w->thread, NULL, work, w) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return ok;
}

mx_worker *mx_worker_new(mlax_engine *e, void (*run)(void *arg), void *arg) {
  mx_worker *w = mx_calloc(e, sizeof *w);
  if (!w) return NULL;
  w->run = run;
  w->arg = arg;
  pthread_mutex_init(&w->lock, NULL);
  pthread_cond_init(&w->changed, NULL);
  if (start(w)) return w;
  pthread_cond_destroy(&w->changed);
  pthread_mutex_destroy(&w->lock);
  mx_free(e, w, sizeof *w);
  return NULL;
}

void mx_worker_submit(mx_worker *w) {
  pthread_mutex_lock(&w->lock);
  w->state = BUSY;
  pthread_cond_broadcast(&w->changed);
  pthread_mutex_unlock(&w->lock);
}

void mx_worker_wait(mx_worker *w) {
  pthread_mutex_lock(&w->lock);
  while (w->state == BUSY) pthread_cond_wait(&w->changed, &w->lock);
  pthread_mutex_unlock(&w->lock);
}

void mx_worker_free(mlax_engine *e, mx_worker *w) {
  if (!w) return;
  pthread_mutex_lock(&w->lock);
  w->state = ENDING;
  pthread_cond_broadcast(&w->changed);
  pthread_mutex_unlock(&w->lock);
  pthread_join(w->thread, NULL);
  pthread_cond_destroy(&w->changed);
  pthread_mutex_destroy(&w->lock);
  mx_free(e, w, sizeof *w);
}
