#include "sim/virtual_file.h"

#include <algorithm>
#include <cstring>

namespace tiercel::sim {
namespace {

void copy_sector(Page& to, const PageRef& from, std::uint64_t sector) {
  const std::uint64_t at = sector * kSectorBytes;
  if (from) {
    std::memcpy(to.data() + at, from->data() + at, kSectorBytes);
  } else {
    std::memset(to.data() + at, 0, kSectorBytes);
  }
}

}  // namespace

PageRef torn(const PageRef& image, const PageRef& other, Random& random) {
  if (image == other) return image;
  auto page = std::make_shared<Page>();
  for (std::uint64_t sector = 0; sector < kPageBytes / kSectorBytes; ++sector) {
    copy_sector(*page, random.below(2) == 0 ? image : other, sector);
  }
  return page;
}

void VirtualFile::resize(std::uint64_t bytes) {
  if (bytes == size_) return;
  if (sizes_.empty()) sizes_.push_back({.sequence = 0, .bytes = size_});
  sizes_.push_back({.sequence = ++sequence_, .bytes = bytes});
  size_ = bytes;
  const std::uint64_t pages = (bytes + kPageBytes - 1) / kPageBytes;
  unsynced_.erase(unsynced_.lower_bound(pages), unsynced_.end());
  pages_.resize(pages);
}

void VirtualFile::read(std::uint64_t offset, std::span<std::byte> to) const {
  for (std::size_t done = 0; done < to.size();) {
    const std::uint64_t at = (offset + done) % kPageBytes;
    const std::size_t bytes = std::min<std::size_t>(kPageBytes - at, to.size() - done);
    if (const PageRef& page = pages_[(offset + done) / kPageBytes]) {
      std::memcpy(to.data() + done, page->data() + at, bytes);
    } else {
      std::memset(to.data() + done, 0, bytes);
    }
    done += bytes;
  }
}

void VirtualFile::write(const PageWrite& write) {
  if ((write.page + 1) * kPageBytes > size_) resize((write.page + 1) * kPageBytes);
  Images& images = unsynced_[write.page];
  if (images.empty()) images.push_back({.sequence = 0, .bytes = pages_[write.page]});
  images.push_back({.sequence = ++sequence_, .bytes = write.image});
  pages_[write.page] = write.image;
}

PageRef VirtualFile::page(std::uint64_t page) const { return page < pages_.size() ? pages_[page] : nullptr; }

void VirtualFile::flip_bit(std::uint64_t page, std::uint32_t bit) {
  if (page >= pages_.size()) return;
  const auto flipped = [bit](const PageRef& from) {
    auto copy = from ? std::make_shared<Page>(*from) : std::make_shared<Page>();
    (*copy)[bit / 8 % kPageBytes] ^= static_cast<std::byte>(1U << (bit % 8));
    return PageRef(copy);
  };
  pages_[page] = flipped(pages_[page]);
  const auto found = unsynced_.find(page);
  if (found != unsynced_.end()) found->second.back().bytes = pages_[page];
}

void VirtualFile::make_durable(std::uint64_t mark) {
  for (auto entry = unsynced_.begin(); entry != unsynced_.end();) {
    Images& images = entry->second;
    const auto first_later = std::ranges::find_if(images, [mark](const Image& image) { return image.sequence > mark; });
    images.erase(images.begin(), first_later - 1);  // [0] has sequence 0, so there is one before
    images[0].sequence = 0;
    entry = images.size() == 1 ? unsynced_.erase(entry) : std::next(entry);
  }
  if (sizes_.empty()) return;
  const auto first_later = std::ranges::find_if(sizes_, [mark](const Size& size) { return size.sequence > mark; });
  sizes_.erase(sizes_.begin(), first_later - 1);
  sizes_[0].sequence = 0;
  if (sizes_.size() == 1) sizes_.clear();
}

PageRef VirtualFile::choose(const Images& images, const CrashStyle& style, std::uint64_t cut, Random& random) {
  if (style.ordered) {
    const auto first_later = std::ranges::find_if(images, [cut](const Image& image) { return image.sequence > cut; });
    return (first_later - 1)->bytes;
  }
  std::size_t last = 0;  // the durable one, if none is kept
  std::size_t other = 0;
  for (std::size_t i = 1; i < images.size(); ++i) {
    if (random.below(100) >= style.keep_percent) continue;
    other = last;
    if (last == 0 || random.below(4) != 0) last = i;  // in any order: an older image may be the one that stays
  }
  if (style.tears && random.below(4) == 0) return torn(images[last].bytes, images[other].bytes, random);
  return images[last].bytes;
}

void VirtualFile::crash_size(const CrashStyle& style, std::uint64_t cut, Random& random) {
  if (sizes_.empty()) return;
  std::size_t left = sizes_.size() - 1;
  if (style.ordered) {
    while (sizes_[left].sequence > cut) --left;
  } else {
    left = random.below(sizes_.size());
  }
  const std::uint64_t bytes = sizes_[left].bytes;
  sizes_.clear();
  size_ = bytes;
  pages_.resize((bytes + kPageBytes - 1) / kPageBytes);
}

void VirtualFile::crash(const CrashStyle& style, std::span<const PageWrite> in_flight, Random& random) {
  if (style.kind == CrashStyle::Kind::kKill) {
    for (const PageWrite& write : in_flight) {
      if (random.below(100) >= style.keep_percent) continue;
      const bool tear = style.tears && random.below(4) == 0;
      this->write({.page = write.page, .image = tear ? torn(write.image, page(write.page), random) : write.image});
    }
    return;  // the machine goes on: what is unsynced stays so, for a power cut that comes later
  }
  for (const PageWrite& write : in_flight) this->write(write);
  const std::uint64_t cut = random.below(sequence_ + 1);
  for (const auto& [page, images] : unsynced_) pages_[page] = choose(images, style, cut, random);
  unsynced_.clear();
  crash_size(style, cut, random);
  sequence_ = 0;
}

}  // namespace tiercel::sim
