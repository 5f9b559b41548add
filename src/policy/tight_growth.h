// push_tightly(): a vector that grows by an eighth and not by its whole length, for pools whose size has a bound.
#pragma once

#include <utility>
#include <vector>

namespace tiercel {

template <class T>
void push_tightly(std::vector<T>& vector, T value) {
  if (vector.size() == vector.capacity()) vector.reserve(vector.size() + vector.size() / 8 + 64);
  vector.push_back(std::move(value));
}

}  // namespace tiercel
