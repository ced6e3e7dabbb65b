// SPDX-License-Identifier: Apache-2.0
// The C++ library: threads, futures, condition variables, exceptions carried between threads,
// destructors of thread-local objects, iostreams, file streams, regular expressions, containers.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <filesystem>
#include <fstream>
#include <future>
#include <iomanip>
#include <iostream>
#include <map>
#include <mutex>
#include <numeric>
#include <regex>
#include <shared_mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

int failed = 0;

void Step(const char* name, bool ok) {
  std::cout << name << ": " << (ok ? "ok" : "FAILED") << std::endl;
  if (!ok) ++failed;
}

std::atomic<int> destroyed = 0;

struct Counted {
  int value = 0;
  ~Counted() { destroyed += value; }
};
thread_local Counted counted;

int Throwing(int depth) {
  const std::string keeps_memory(100, 'x');
  if (depth == 0) throw std::runtime_error("from below");
  return Throwing(depth - 1) + static_cast<int>(keeps_memory.size());
}

void Threads() {
  std::vector<std::thread> threads;
  std::mutex mutex;
  long sum = 0;
  for (int i = 1; i <= 16; ++i)
    threads.emplace_back([&, i] {
      counted.value = i;
      for (int round = 0; round < 1000; ++round) {
        const std::lock_guard lock(mutex);
        sum += i;
      }
    });
  for (std::thread& thread : threads) thread.join();
  Step("mutex", sum == 136 * 1000);
  Step("thread-local destructors", destroyed == 136);
  std::condition_variable condition;
  bool ready = false;
  std::thread notifier([&] {
    const std::lock_guard lock(mutex);
    ready = true;
    condition.notify_all();
  });
  std::unique_lock lock(mutex);
  Step("condition", condition.wait_for(lock, std::chrono::seconds(20), [&] { return ready; }));
  lock.unlock();
  notifier.join();
  std::shared_mutex shared;
  std::atomic<int> readers = 0;
  threads.clear();
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      const std::shared_lock read(shared);
      ++readers;
    });
  for (std::thread& thread : threads) thread.join();
  Step("shared mutex", readers == 8);
}

void Exceptions() {
  auto future = std::async(std::launch::async, [] { return Throwing(20); });
  std::string message;
  try {
    future.get();
  } catch (const std::exception& error) {
    message = error.what();
  }
  Step("carried between threads", message == "from below");
  std::atomic<int> caught = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) try {
          Throwing(10);
        } catch (const std::runtime_error&) {
          ++caught;
        }
    });
  for (std::thread& thread : threads) thread.join();
  Step("caught in each", caught == 400);
  std::promise<int> promise;
  std::thread([&promise] { promise.set_value(7); }).detach();
  Step("promise", promise.get_future().get() == 7);
}

void Streams(const std::string& folder) {
  std::ostringstream text;
  text << std::hex << 255 << ' ' << std::setprecision(12) << 1.0 / 3 << ' ' << std::setw(6)
       << std::setfill('*') << std::dec << 42 << ' ' << std::boolalpha << true;
  Step("formatting", text.str() == "ff 0.333333333333 ****42 true");
  const std::filesystem::path path = std::filesystem::path(folder) / "stream" / "deep";
  std::filesystem::create_directories(path);
  {
    std::ofstream file(path / "numbers");
    for (int i = 0; i < 1000; ++i) file << i << '\n';
  }
  std::ifstream file(path / "numbers");
  long sum = 0;
  for (int value; file >> value;) sum += value;
  Step("file streams", sum == 499500 && std::filesystem::file_size(path / "numbers") == 3890);
  std::filesystem::rename(path / "numbers", path / "renamed");
  int found = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    found += entry.path().filename() == "renamed";
  Step("found again", found == 1);
  std::error_code error;
  static_cast<void>(std::filesystem::file_size(path / "none", error));
  Step("error code", error == std::errc::no_such_file_or_directory);
}

void Containers() {
  std::map<std::string, int> words;
  const std::string text = "the cat and the dog and the bird";
  const std::regex word("[a-z]+");
  for (std::sregex_iterator at(text.begin(), text.end(), word), end; at != end; ++at)
    ++words[at->str()];
  for (const auto& [name, count] : words) std::cout << name << '=' << count << ' ';
  std::cout << '\n';
  std::vector<int> numbers(50000);
  std::iota(numbers.begin(), numbers.end(), 0);
  std::ranges::reverse(numbers);
  std::stable_sort(numbers.begin(), numbers.end());
  Step("sorted", std::ranges::is_sorted(numbers));
}

}  // namespace

int main(int argc, char** argv) {
  Threads();
  Exceptions();
  Streams(argc > 1 ? argv[1] : "/tmp");
  Containers();
  std::string line;
  int lines = 0;
  while (std::getline(std::cin, line)) ++lines;
  std::cout << lines << " lines of input" << std::endl;
  return failed;
}
