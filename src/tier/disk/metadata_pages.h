// MetadataPages: which pages of the metadata region (headers, extent heads, namespaces) are to be written, and who
// waits for which.
//
// The image of the region is memory that others fill; this knows how it differs from the file. A page is `stale` when
// the image holds something that the file does not, `wanted` when somebody waits for it to be written. At most one
// write of a page is in flight; what changes meanwhile rides on the next. take() gives neighbours as one run; the
// caller copies the pages when it starts the write, so that updates do not tear it. Pure; one thread at a time.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

namespace tiercel::disk {

class MetadataPages {
 public:
  using Waiter = std::uint32_t;
  struct Run {
    std::uint32_t page = 0;
    std::uint32_t count = 0;
  };

  /// The image of the page has changed; it goes to the file when somebody wants the page.
  void touch(std::uint32_t page) { pages_[page].stale = true; }
  /// As touch, and `waiter` waits until an image made from now on is in the file.
  void want(std::uint32_t page, Waiter waiter);
  /// `waiter` waits for every page that is stale or in flight now: it is named by finish() once a page. Returns how
  /// many times.
  [[nodiscard]] std::uint64_t want_all(Waiter waiter);
  /// The page equals the file's again without a write (its extent was cut anew: what the file holds does not count).
  void forget(std::uint32_t page);

  /// The pages to write now, longest waited for first, with their wanted neighbours.
  [[nodiscard]] std::optional<Run> take(std::uint32_t most);
  /// The run's write has ended. Returns who waited for it. Without success the pages are stale again.
  [[nodiscard]] std::vector<Waiter> finish(const Run& run, bool ok);
  /// The run is late: those who wait for it are told now, but its pages stay in flight until finish().
  [[nodiscard]] std::vector<Waiter> take_riders(const Run& run);
  /// Nobody waits for what is not in flight any more. Returns who did.
  [[nodiscard]] std::vector<Waiter> give_up_wanted();

  [[nodiscard]] bool wanted() const noexcept { return wanted_ > 0; }
  [[nodiscard]] bool in_flight(std::uint32_t page) const;
  [[nodiscard]] std::size_t tracked() const noexcept { return pages_.size(); }

 private:
  struct Page {
    bool stale = false;
    bool in_flight = false;
    std::vector<Waiter> waiting;  // for the next image
    std::vector<Waiter> riding;   // on the one in flight
  };
  using Pages = std::map<std::uint32_t, Page>;

  [[nodiscard]] static bool ready(const Page& page) noexcept { return !page.waiting.empty() && !page.in_flight; }
  void start(Page& page) noexcept;

  Pages pages_;                      // that differ from the file, or are in flight
  std::deque<std::uint32_t> order_;  // pages in the order in which they came to be wanted; some may have gone since
  std::size_t wanted_ = 0;           // pages with a waiter and no write in flight
};

}  // namespace tiercel::disk
