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

/* One word a thread: generation << 32 | end << 16 | next of the parts that are still its own. A thread takes its own
   parts from the front and others' from the back, so a part runs on the same core in every job as long as the cores keep
   pace, and finds there what the last job left in that core's cache: lines written by a core of another cache complex
   cost ten times a miss. The generation makes sure that a part is claimed only from the job it was seen in. */
static struct { _Alignas(64) _Atomic uint64_t parts; } own[AF_MAX_THREADS];
static _Atomic uint64_t posted; /* generation << 32 | threads */
static _Atomic int done;
static _Atomic int sleepers;
static struct { af_part_function function; void *context; int parts; } job;

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

/* Takes a part of thread `whose`; -1 when it has none left in this job. */
static int claim(int whose, uint32_t generation, int from_front) {
  uint64_t seen = atomic_load(&own[whose].parts);
  for (;;) {
    uint32_t next = seen & 0xffff, end = seen >> 16 & 0xffff;
    if (next >= end || seen >> 32 != generation) return -1;
    uint64_t left = from_front ? seen + 1 : seen - (1u << 16);
    if (atomic_compare_exchange_weak(&own[whose].parts, &seen, left)) return (int)(from_front ? next : end - 1);
  }
}

/* Runs unclaimed parts of a job, this thread's own first; returns when none is left. A claimed part keeps the job from
   ending, so what was read of it before stays true. */
static void help(int me, uint64_t post) {
  int threads = (int)(post & 0xffffffffu);
  for (int turn = 0; turn < threads; turn++) {
    int part;
    while ((part = claim((me + turn) % threads, (uint32_t)(post >> 32), turn == 0)) >= 0) {
      run(job.function, part, job.parts, job.context);
      atomic_fetch_add(&done, 1);
    }
  }
}

static void *worker(void *number) {
  uint64_t last = 0, seen;
  for (;;) {
    for (int i = 0; (seen = atomic_load(&posted)) == last && i < AF_SPINS; i++) AF_PAUSE();
    if (seen == last) {
      pthread_mutex_lock(&sleep_lock);
      atomic_fetch_add(&sleepers, 1);
      while ((seen = atomic_load(&posted)) == last) pthread_cond_wait(&wake, &sleep_lock);
      atomic_fetch_sub(&sleepers, 1);
      pthread_mutex_unlock(&sleep_lock);
    }
    last = seen;
    help((int)(intptr_t)number, seen);
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
    if (pthread_create(&thread, 0, worker, (void *)(intptr_t)(workers + 1))) return;
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
  job.parts = parts;
  atomic_store(&done, 0);
  uint64_t generation = ((atomic_load(&posted) >> 32) + 1) << 32, post = generation | (uint64_t)threads;
  for (uint64_t t = 0, next = 0, end; t < (uint64_t)threads; t++, next = end) {
    end = (uint64_t)parts * (t + 1) / (uint64_t)threads;
    atomic_store(&own[t].parts, generation | end << 16 | next);
  }
  atomic_store(&posted, post);
  if (atomic_load(&sleepers)) {
    pthread_mutex_lock(&sleep_lock);
    pthread_cond_broadcast(&wake);
    pthread_mutex_unlock(&sleep_lock);
  }
  help(0, post);
  for (int spins = 0; atomic_load(&done) < parts; spins++) {
    if (spins < AF_SPINS) AF_PAUSE();
    else sched_yield();
  }
  pthread_mutex_unlock(&caller_lock);
}
