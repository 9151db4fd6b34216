// Threads that wait for the next operator: awake for some microseconds, then asleep.
#ifndef CUSTOM_OPS_TFLITE_THREAD_POOL_H_
#define CUSTOM_OPS_TFLITE_THREAD_POOL_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "custom_ops/kernels/cpu/adder.h"

namespace pkkd {

class ThreadPool {
 public:
  // `threads` counts the calling one; anything below 1 means 1.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // See ParallelFor in adder.h. Rethrows what `body` throws, on whatever thread. One call at a
  // time: a second caller waits.
  void Run(int64_t items, int64_t cost, const RangeBody& body);

 private:
  struct Job {
    const RangeBody* body;
    int64_t items, chunks;
  };

  void Work();
  void RunChunks(const Job& job);
  void Stop();

  std::vector<std::thread> workers_;
  std::mutex callers_;
  std::mutex mutex_;  // guards job_ and error_, and who sleeps
  std::condition_variable start_, finished_;
  Job job_ = {};  // no body: no worker may join it any more
  std::exception_ptr error_;
  std::atomic<int64_t> generation_{0};  // counts the jobs
  std::atomic<int> busy_{0};            // workers that have joined the job and not finished it
  std::atomic<bool> stop_{false};
  std::atomic<int64_t> next_chunk_{0};
};

}  // namespace pkkd

#endif  // CUSTOM_OPS_TFLITE_THREAD_POOL_H_
