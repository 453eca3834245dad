/* Threads of the library's own. */
#ifndef FLODL_BASE_THREAD_H
#define FLODL_BASE_THREAD_H

#include <pthread.h>

/* pthread_create under a name of at most 15 characters. Signals are the business of the program's own threads, but for those that
 * a thread causes itself. The error's number; 0: it runs. */
int thread_start(pthread_t *thread, const char *name, void *(*work)(void *arg), void *arg);

#endif
