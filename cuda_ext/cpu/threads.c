#define _GNU_SOURCE
#include "cpu/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define AF_PAUSE() _mm_pause()
#else
#define AF_PAUSE() atomic_signal_fence(memory_order_seq_cst)
#endif

/* Spinning bridges the gaps inside one call; longer waits sleep, since torch's own threads want the cores as well. */
#define AF_SPINS 4000

/* generation << 32 | parts << 16 | next part: one word, so that a part is claimed only from the job it was seen in. */
static _Atomic uint64_t ticket;
static _Atomic int done;
static _Atomic int sleepers;
static struct { af_part_function function; void *context; } job;

static pthread_mutex_t caller_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t sleep_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int workers;
static _Atomic int wanted_threads;

/* Denormal numbers cost a hundred cycles each, and decaying Adam moments are full of them. */
static void run(af_part_function function, int part, int parts, void *context) {
#if defined(__x86_64__)
  unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040u);
  function(part, parts, context);
  _mm_setcsr(before);
#else
  function(part, parts, context);
#endif
}

/* Runs unclaimed parts of the job that `seen` belongs to; returns when none is left. */
static void help(uint64_t seen) {
  uint32_t generation = (uint32_t)(seen >> 32);
  for (;;) {
    int parts = (int)(seen >> 16 & 0xffff), next = (int)(seen & 0xffff);
    if (next >= parts || (uint32_t)(seen >> 32) != generation) return;
    if (atomic_compare_exchange_weak(&ticket, &seen, seen + 1)) {
      run(job.function, next, parts, job.context);
      atomic_fetch_add(&done, 1);
      seen = atomic_load(&ticket);
    }
  }
}

static void *worker(void *unused) {
  (void)unused;
  uint64_t generation = 0;
  for (;;) {
    uint64_t seen = atomic_load(&ticket);
    for (int i = 0; i < AF_SPINS && seen >> 32 == generation; i++) {
      AF_PAUSE();
      seen = atomic_load(&ticket);
    }
    if (seen >> 32 == generation) {
      pthread_mutex_lock(&sleep_lock);
      atomic_fetch_add(&sleepers, 1);
      while ((seen = atomic_load(&ticket)) >> 32 == generation) pthread_cond_wait(&wake, &sleep_lock);
      atomic_fetch_sub(&sleepers, 1);
      pthread_mutex_unlock(&sleep_lock);
    }
    generation = seen >> 32;
    help(seen);
  }
  return 0;
}

/* Threads do not survive a fork: the child starts with none and makes its own. */
static void after_fork(void) {
  pthread_mutex_init(&caller_lock, 0);
  pthread_mutex_init(&sleep_lock, 0);
  pthread_cond_init(&wake, 0);
  atomic_store(&sleepers, 0);
  workers = 0;
}

static void init(void) {
  int count = 0;
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
#endif
  if (count < 1) count = (int)sysconf(_SC_NPROCESSORS_ONLN);
  if (count < 1) count = 1;
  if (count > 16) count = 16;
  atomic_store(&wanted_threads, count);
  pthread_atfork(0, 0, after_fork);
}

int af_thread_count(void) {
  pthread_once(&once, init);
  return atomic_load(&wanted_threads);
}

void af_set_thread_count(int count) {
  pthread_once(&once, init);
  atomic_store(&wanted_threads, count < 1 ? 1 : count > AF_MAX_THREADS ? AF_MAX_THREADS : count);
}

/* A machine that refuses a thread only makes the job slower: the caller runs every part that nobody claims. */
static void grow(int count) {
  while (workers < count) {
    pthread_t thread;
    if (pthread_create(&thread, 0, worker, 0)) return;
    pthread_detach(thread);
    workers++;
  }
}

void af_parallel(int parts, af_part_function function, void *context) {
  int threads = af_thread_count();
  if (parts <= 1 || threads <= 1 || pthread_mutex_trylock(&caller_lock)) {
    for (int part = 0; part < parts; part++) run(function, part, parts, context);
    return;
  }
  grow(threads - 1);
  job.function = function;
  job.context = context;
  atomic_store(&done, 0);
  uint64_t generation = (atomic_load(&ticket) >> 32) + 1;
  uint64_t posted = (generation & 0xffffffffu) << 32 | (uint64_t)parts << 16;
  atomic_store(&ticket, posted);
  if (atomic_load(&sleepers)) {
    pthread_mutex_lock(&sleep_lock);
    pthread_cond_broadcast(&wake);
    pthread_mutex_unlock(&sleep_lock);
  }
  help(posted);
  for (int spins = 0; atomic_load(&done) < parts; spins++) {
    if (spins < AF_SPINS) AF_PAUSE();
    else sched_yield();
  }
  pthread_mutex_unlock(&caller_lock);
}
