#include "custom_ops/tflite/thread_pool.h"

#include <algorithm>

namespace pkkd {
namespace {

constexpr int kMostThreads = 256;
constexpr int64_t kChunksPerThread = 4;   // so that a slow thread holds up the others less
constexpr int64_t kLeastCycles = 50'000;  // below that, waking a thread takes longer

constexpr int kSpins = 1000;  // about as long as it takes to fall asleep and be woken

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Sees work that comes soon without the cost of sleep.
template <typename Condition>
void Spin(const Condition& condition) {
  for (int i = 0; i < kSpins && !condition(); ++i) Pause();
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  try {
    for (int i = 1; i < std::min(threads, kMostThreads); ++i) {
      workers_.emplace_back([this] { Work(); });
    }
  } catch (...) {
    Stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { Stop(); }

void ThreadPool::Stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  start_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(int64_t items, int64_t cost, const RangeBody& body) {
  if (workers_.empty() || items < 2 || items * cost < kLeastCycles) return body(0, items);
  const std::lock_guard<std::mutex> caller(callers_);
  const int64_t threads = workers_.size() + 1;
  const Job job = {&body, items, std::min(items, threads * kChunksPerThread)};
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    job_ = job;
    next_chunk_ = 0;
    error_ = nullptr;
    ++generation_;
  }
  start_.notify_all();
  RunChunks(job);
  // All chunks are taken. A worker that has not woken up by now is not waited for.
  std::unique_lock<std::mutex> lock(mutex_);
  job_.body = nullptr;
  lock.unlock();
  const auto is_finished = [this] { return busy_ == 0; };
  Spin(is_finished);
  lock.lock();
  finished_.wait(lock, is_finished);
  if (error_) std::rethrow_exception(error_);
}

void ThreadPool::Work() {
  int64_t done = 0;
  const auto is_wanted = [&] { return stop_ || generation_ != done; };
  while (true) {
    Spin(is_wanted);
    std::unique_lock<std::mutex> lock(mutex_);
    start_.wait(lock, is_wanted);
    if (stop_) return;
    done = generation_;
    const Job job = job_;
    if (job.body == nullptr) continue;
    ++busy_;
    lock.unlock();
    RunChunks(job);
    lock.lock();
    if (--busy_ == 0) finished_.notify_one();
  }
}

void ThreadPool::RunChunks(const Job& job) {
  try {
    for (int64_t i = next_chunk_++; i < job.chunks; i = next_chunk_++) {
      (*job.body)(job.items * i / job.chunks, job.items * (i + 1) / job.chunks);
    }
  } catch (...) {
    const std::lock_guard<std::mutex> lock(mutex_);
    error_ = std::current_exception();
  }
}

}  // namespace pkkd
