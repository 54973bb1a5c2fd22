/* A small pool: parts of a job are claimed one by one by whoever is free, the caller among them.
   What a part computes must depend on its number only, never on the thread that runs it. */
#ifndef AF_THREADS_H
#define AF_THREADS_H

#define AF_MAX_THREADS 64

typedef void (*af_part_function)(int part, int parts, void *context);

/* Runs parts 0..parts-1 (at most 65535) and returns when all are done. Callers at the same time are safe: the second runs
   its own parts alone. */
void af_parallel(int parts, af_part_function function, void *context);

int af_thread_count(void);
void af_set_thread_count(int count);

#endif
