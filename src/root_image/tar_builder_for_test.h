// SPDX-License-Identifier: Apache-2.0
// Writes tar archives entry by entry, hostile ones included.
#ifndef WAXVM_SRC_ROOT_IMAGE_TAR_BUILDER_FOR_TEST_H_
#define WAXVM_SRC_ROOT_IMAGE_TAR_BUILDER_FOR_TEST_H_

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace waxvm::root_image {

class TarBuilder {
 public:
  struct Entry {
    std::string name;
    char type = '0';
    std::string data = {};
    std::string link = {};
    unsigned mode = 0644;
    std::string size = {};  ///< of the header where it is not that of `data`, twelve bytes
    bool ustar = true;
  };

  TarBuilder& Add(const Entry& entry) {
    std::string block(512, '\0');
    Put(block, 0, entry.name.substr(0, 100));
    Put(block, 100, Octal(entry.mode, 7));
    Put(block, 108, Octal(owner_, 7));
    Put(block, 116, Octal(owner_, 7));
    Put(block, 124, entry.size.empty() ? Octal(entry.data.size(), 11) : entry.size);
    Put(block, 136, Octal(1'000'000'000, 11));
    Put(block, 148, "        ");
    block[156] = entry.type;
    Put(block, 157, entry.link.substr(0, 100));
    if (entry.ustar)
      Put(block, 257,
          std::string("ustar\0"
                      "00",
                      8));
    unsigned sum = 0;
    for (const char c : block) sum += static_cast<unsigned char>(c);
    Put(block, 148, Octal(sum, 6) + std::string("\0 ", 2));
    bytes_ += block + entry.data;
    bytes_.resize((bytes_.size() + 511) / 512 * 512);
    return *this;
  }
  TarBuilder& File(const std::string& name, const std::string& data, unsigned mode = 0644) {
    return Add({.name = name, .data = data, .mode = mode});
  }
  TarBuilder& Directory(const std::string& name, unsigned mode = 0755) {
    return Add({.name = name, .type = '5', .mode = mode});
  }
  TarBuilder& Link(const std::string& name, const std::string& target) {
    return Add({.name = name, .type = '2', .link = target});
  }
  TarBuilder& HardLink(const std::string& name, const std::string& target) {
    return Add({.name = name, .type = '1', .link = target});
  }
  TarBuilder& Pax(const std::string& key, const std::string& value, char type = 'x') {
    const std::string rest = " " + key + "=" + value + "\n";
    std::size_t bytes = rest.size();
    while (bytes != rest.size() + std::to_string(bytes).size())
      bytes = rest.size() + std::to_string(bytes).size();
    return Add({.name = "pax", .type = type, .data = std::to_string(bytes) + rest});
  }
  TarBuilder& set_owner(unsigned owner) {
    owner_ = owner;
    return *this;
  }

  /// With the end mark.
  std::string Bytes() const { return bytes_ + std::string(1024, '\0'); }
  const std::string& WithoutEnd() const { return bytes_; }

 private:
  static void Put(std::string& block, std::size_t offset, std::string_view text) {
    block.replace(offset, text.size(), text);
  }
  static std::string Octal(std::uint64_t value, int digits) {
    char text[32];
    std::snprintf(text, sizeof text, "%0*llo", digits, static_cast<unsigned long long>(value));
    return text;
  }

  std::string bytes_;
  unsigned owner_ = 0;
};

}  // namespace waxvm::root_image

#endif  // WAXVM_SRC_ROOT_IMAGE_TAR_BUILDER_FOR_TEST_H_
