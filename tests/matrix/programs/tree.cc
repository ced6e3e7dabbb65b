// SPDX-License-Identifier: Apache-2.0
// C++: threads, futures, exceptions, containers, ranges, streams, the file system library.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <ranges>
#include <sstream>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

namespace {

struct Tree {
  long key;
  std::unique_ptr<Tree> left = nullptr;
  std::unique_ptr<Tree> right = nullptr;

  void Insert(long value) {
    auto& side = value < key ? left : right;
    if (side)
      side->Insert(value);
    else
      side = std::make_unique<Tree>(Tree{value});
  }
  long Depth() const { return 1 + std::max(left ? left->Depth() : 0, right ? right->Depth() : 0); }
};

long Grow(int seed) {
  Tree tree{500};
  for (long i = 1; i < 2000; ++i) tree.Insert((i * 7919 * seed) % 10007);
  if (seed == 5) throw std::out_of_range("seed 5");
  return tree.Depth();
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::future<long>> futures;
  for (int seed = 1; seed <= 8; ++seed)
    futures.push_back(std::async(std::launch::async, Grow, seed));
  for (auto& future : futures) try {
      std::cout << future.get() << ' ';
    } catch (const std::out_of_range& error) {
      std::cout << "(" << error.what() << ") ";
    }
  std::cout << '\n';
  std::unordered_map<std::string, int> counts;
  std::istringstream words("to be or not to be that is the question");
  for (std::string word; words >> word;) ++counts[word];
  const std::map<std::string, int> sorted(counts.begin(), counts.end());
  for (const auto& [word, count] : sorted) std::cout << word << count << ' ';
  std::cout << '\n';
  for (const int value : std::views::iota(1, 20) | std::views::filter([](int i) {
                           return i % 3 == 0;
                         }) | std::views::transform([](int i) { return i * i; }))
    std::cout << value << ' ';
  const std::variant<int, std::string> either = "text";
  std::cout << std::get<std::string>(either) << '\n';
  const std::filesystem::path folder = argc > 1 ? argv[1] : "/tmp";
  std::filesystem::create_directories(folder / "cpp" / "deep");
  std::ofstream(folder / "cpp" / "deep" / "file") << "content\n";
  std::filesystem::create_symlink("deep/file", folder / "cpp" / "link");
  std::filesystem::copy_file(folder / "cpp" / "link", folder / "cpp" / "copy");
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder / "cpp"))
    counts["files"] += entry.is_regular_file();
  std::cout << counts["files"] << " files, " << std::optional(7).value() << std::endl;
  std::set_terminate([] {
    std::cout << "terminated" << std::endl;
    std::_Exit(9);
  });
  throw std::logic_error("nobody catches this");
}
