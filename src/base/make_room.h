// make_room: a vector's room for some more elements, ahead of a place where nothing may be allocated (under a lock).
//
// In doubling steps: `reserve(size() + more)` allocates no more than asked for, so that a list that grows by slices
// would be copied whole for every slice. Throws std::bad_alloc, and the vector is then as before.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace tiercel {

template <class T>
void make_room(std::vector<T>& list, std::size_t more) {
  if (list.capacity() - list.size() < more) list.reserve(std::max(2 * list.size(), list.size() + more));
}

}  // namespace tiercel
