// WrappedFileSystem: another filesystem whose files are opened through a decorator that the test chooses.
//
// Refers to the other filesystem, which outlives it. The decorator may be called from any thread that opens a file.
#pragma once

#include "io/file_system.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace tiercel {

class WrappedFileSystem final : public FileSystem {
 public:
  using Wrap = std::function<std::unique_ptr<IoBackend>(const std::string& path, std::unique_ptr<IoBackend>)>;

  WrappedFileSystem(FileSystem& inner, Wrap wrap) : inner_(inner), wrap_(std::move(wrap)) {}

  [[nodiscard]] Result<std::unique_ptr<IoBackend>> open(const std::string& path, const OpenOptions& options) override {
    Result<std::unique_ptr<IoBackend>> opened = inner_.open(path, options);
    if (!opened) return opened;
    return wrap_(path, std::move(*opened));
  }
  Status rename(const std::string& from, const std::string& to) override { return inner_.rename(from, to); }
  Status remove(const std::string& path) override { return inner_.remove(path); }
  [[nodiscard]] Result<bool> exists(const std::string& path) override { return inner_.exists(path); }
  [[nodiscard]] Result<std::unique_ptr<FileLock>> lock(const std::string& path) override { return inner_.lock(path); }
  [[nodiscard]] Result<FreeSpace> space(const std::string& directory) override { return inner_.space(directory); }

 private:
  FileSystem& inner_;
  const Wrap wrap_;
};

}  // namespace tiercel
