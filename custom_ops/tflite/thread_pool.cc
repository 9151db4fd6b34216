#include "custom_ops/tflite/thread_pool.h"

#include <algorithm>

namespace pkkd {
namespace {

constexpr int kMostThreads = 256;
constexpr int64_t kChunksPerThread = 4;   // so that a slow thread holds up the others less
constexpr int64_t kLeastCycles = 50'000;  // below that, waking a thread takes longer

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
    busy_ = workers_.size();
    error_ = nullptr;
    ++generation_;
  }
  start_.notify_all();
  RunChunks(job);
  std::unique_lock<std::mutex> lock(mutex_);
  finished_.wait(lock, [this] { return busy_ == 0; });
  if (error_) std::rethrow_exception(error_);
}

void ThreadPool::Work() {
  int64_t done = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    start_.wait(lock, [&] { return stop_ || generation_ != done; });
    if (stop_) return;
    done = generation_;
    const Job job = job_;
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
