#include "data/token_stream.h"

#include <algorithm>

#include "core/progress.h"
#include "data/token_formats.h"

namespace sluice {

TokenStream::TokenStream(const std::vector<std::filesystem::path>& paths) {
  starts_.push_back(0);
  files_.reserve(paths.size());
  for (const auto& path : paths) {
    files_.push_back(open_token_file(path));
    int64_t total = 0;
    SLUICE_CHECK(!__builtin_add_overflow(starts_.back(), files_.back().size(), &total), kData,
                 "{}: the files up to this one hold more than 2^63 tokens", path.string());
    starts_.push_back(total);
  }
}

TokenStream::TokenStream(const std::string& source) : TokenStream(expand_sources(source)) {}

template <class Visit>
void TokenStream::visit_files(int64_t first, int64_t count, Visit&& visit) const {
  SLUICE_ASSERT(first >= 0 && count >= 0 && count <= size() - first);
  auto index =
      static_cast<size_t>(std::upper_bound(starts_.begin(), starts_.end(), first) - starts_.begin() - 1);
  for (int64_t done = 0; done < count; ++index) {
    const int64_t inside = first + done - starts_[index];
    const int64_t piece = std::min(count - done, files_[index].size() - inside);
    visit(index, inside, done, piece);
    done += piece;
  }
}

void TokenStream::note_use(size_t file) const {
  if (files_[file].is_open()) return;
  if (open_.size() == kMaximumOpen) {
    files_[open_.front()].close();
    open_.erase(open_.begin());
  }
  open_.push_back(file);
}

void TokenStream::read(int64_t first, std::span<int32_t> out) const {
  visit_files(first, static_cast<int64_t>(out.size()),
              [&](size_t file, int64_t inside, int64_t done, int64_t count) {
                note_use(file);
                files_[file].read(inside, out.subspan(static_cast<size_t>(done), static_cast<size_t>(count)));
              });
}

void TokenStream::mark_documents(int64_t first, std::span<int32_t> flags) const {
  visit_files(first, static_cast<int64_t>(flags.size()),
              [&](size_t file, int64_t inside, int64_t done, int64_t count) {
                files_[file].mark_documents(
                    inside, flags.subspan(static_cast<size_t>(done), static_cast<size_t>(count)));
              });
}

void TokenStream::check_vocabulary(int64_t vocabulary, int64_t part, int64_t parts) const {
  SLUICE_ASSERT(part >= 0 && part < parts);
  Progress progress("checking tokens", static_cast<double>(size() / parts), "tokens");
  int64_t checked = 0;
  for (const TokenFile& file : files_) {
    // Shares differ by at most one token; file.size() * parts could overflow, this cannot.
    const int64_t share = file.size() / parts, rest = file.size() % parts;
    const int64_t begin = part * share + std::min(part, rest);
    const int64_t count = share + (part < rest ? 1 : 0);
    file.check_vocabulary(vocabulary, begin, count, [&](int64_t tokens) {
      progress.update(static_cast<double>(checked + tokens), file.path().filename().string());
    });
    checked += count;
    file.close();
  }
  open_.clear();
}

}  // namespace sluice
