// C11's threads, mutexes and conditions by way of pthreads, for ThreadSanitizer builds only. librdkafka uses them, and
// the ThreadSanitizer of GCC 12 to 14 knows the pthread functions alone: a thread made by thrd_create has no state there
// and crashes at its first allocation. In glibc the types of both have the same layout. An executable's own functions
// come before those of libc.
#include <pthread.h>
#include <threads.h>

#include <cerrno>
#include <cstdint>

static_assert(sizeof(mtx_t) == sizeof(pthread_mutex_t) && sizeof(cnd_t) == sizeof(pthread_cond_t));

namespace {
namespace c11_threads {

struct Start {
  thrd_start_t function;
  void* argument;
};

void* begin(void* start) {
  Start own = *static_cast<Start*>(start);
  delete static_cast<Start*>(start);
  return reinterpret_cast<void*>(static_cast<std::intptr_t>(own.function(own.argument)));
}

int result(int error) {
  switch (error) {
    case 0: return thrd_success;
    case EBUSY: return thrd_busy;
    case ETIMEDOUT: return thrd_timedout;
    case ENOMEM: return thrd_nomem;
    default: return thrd_error;
  }
}

pthread_mutex_t* mutex(mtx_t* own) { return reinterpret_cast<pthread_mutex_t*>(own); }
pthread_cond_t* condition(cnd_t* own) { return reinterpret_cast<pthread_cond_t*>(own); }

}  // namespace c11_threads
}  // namespace

extern "C" {

int thrd_create(thrd_t* thread, thrd_start_t function, void* argument) {
  auto* start = new c11_threads::Start{function, argument};
  int error = pthread_create(thread, nullptr, c11_threads::begin, start);
  if (error != 0) delete start;
  return c11_threads::result(error);
}

int thrd_join(thrd_t thread, int* status) {
  void* value = nullptr;
  int error = pthread_join(thread, &value);
  if (error == 0 && status != nullptr) *status = static_cast<int>(reinterpret_cast<std::intptr_t>(value));
  return c11_threads::result(error);
}

int thrd_detach(thrd_t thread) { return c11_threads::result(pthread_detach(thread)); }

int mtx_init(mtx_t* own, int type) {
  pthread_mutexattr_t kind;
  pthread_mutexattr_init(&kind);
  if ((type & mtx_recursive) != 0) pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE);
  int error = pthread_mutex_init(c11_threads::mutex(own), &kind);
  pthread_mutexattr_destroy(&kind);
  return c11_threads::result(error);
}
int mtx_lock(mtx_t* own) { return c11_threads::result(pthread_mutex_lock(c11_threads::mutex(own))); }
int mtx_trylock(mtx_t* own) { return c11_threads::result(pthread_mutex_trylock(c11_threads::mutex(own))); }
int mtx_unlock(mtx_t* own) { return c11_threads::result(pthread_mutex_unlock(c11_threads::mutex(own))); }
void mtx_destroy(mtx_t* own) { pthread_mutex_destroy(c11_threads::mutex(own)); }

int cnd_init(cnd_t* own) { return c11_threads::result(pthread_cond_init(c11_threads::condition(own), nullptr)); }
int cnd_signal(cnd_t* own) { return c11_threads::result(pthread_cond_signal(c11_threads::condition(own))); }
int cnd_broadcast(cnd_t* own) { return c11_threads::result(pthread_cond_broadcast(c11_threads::condition(own))); }
int cnd_wait(cnd_t* own, mtx_t* held) {
  return c11_threads::result(pthread_cond_wait(c11_threads::condition(own), c11_threads::mutex(held)));
}
int cnd_timedwait(cnd_t* __restrict own, mtx_t* __restrict held, const timespec* __restrict until) {
  return c11_threads::result(pthread_cond_timedwait(c11_threads::condition(own), c11_threads::mutex(held), until));
}
void cnd_destroy(cnd_t* own) { pthread_cond_destroy(c11_threads::condition(own)); }
}
