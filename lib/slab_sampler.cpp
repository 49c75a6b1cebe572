#include "detail/slab_sampler.hpp"

#include <algorithm>
#include <bit>

#include "halfulp/expression_program.hpp"
#include "halfulp/kernel/dd_math.hpp"

namespace halfulp::detail {
namespace {

using Size = std::ptrdiff_t;

Size points(std::uint64_t set, std::span<const Size> lengths) {
  Size n = 1;
  for (std::size_t d = 0; d < lengths.size(); ++d)
    if (set >> d & 1) n *= lengths[d];
  return n;
}

// Runs a group over its sub-grid. data: where the values of a register lie; those of group.arrays
// that the group computes are written there.
template <class T>
void run_group(const FlatCode& flat, const Group& group, std::span<const Size> lengths,
               const std::vector<const T*>& data, int threads) {
  constexpr Size size = sizeof(T) > sizeof(double) ? 64 : 512;
  const Size count = points(group.axes, lengths);
  std::vector<Broadcast> maps;
  for (const auto& s : group.steps)
    if (s.op == Op::expand) maps.emplace_back(group.axes, flat.axes[s.a], lengths);
  const auto part = [&](Size first, Size last) {
    std::vector<T> buffers(static_cast<std::size_t>(group.scratch * size), T(0));
    std::vector<T*> slots(group.scratch + group.arrays.size());
    for (int s = 0; s < group.scratch; ++s) slots[s] = buffers.data() + s * size;
    for (const auto& [r, slot] : group.constants)
      std::fill(slots[slot], slots[slot] + size, *data[r]);
    for (Size block = first; block < last; ++block) {
      const Size begin = block * size, n = std::min(size, count - begin);
      for (std::size_t i = 0; i < group.arrays.size(); ++i)
        slots[group.scratch + i] = const_cast<T*>(data[group.arrays[i]]) + begin;
      std::size_t map = 0;
      for (const auto& s : group.steps) {
        const auto at = [&](int slot) { return slot < 0 ? nullptr : slots[slot]; };
        if (s.op == Op::expand)
          expand(maps[map++], data[s.a], begin, n, slots[s.to]);
        else
          apply<T>(s.op, s.n, at(s.a), at(s.b), at(s.c), slots[s.to], n);
      }
    }
  };
  const Size blocks = (count + size - 1) / size;
  if (threads == 1)
    part(0, blocks);
  else
    for_parts(blocks, threads, part);
}

}  // namespace

SlabSampler::SlabSampler(const Program<dd>& program, std::span<const std::vector<dd>> axes,
                         int threads)
    : program_(program) {
  const FlatCode& flat = program_.code_->flat;
  for (const auto& axis : axes) lengths_.push_back(static_cast<Size>(axis.size()));
  const std::size_t registers = flat.axes.size();
  const int known = flat.inputs + flat.constants;
  stored_.resize(registers);
  {
    std::vector<std::vector<dd>> wide(registers);
    std::vector<const dd*> data(registers, nullptr);
    for (std::size_t r = 0; r < registers; ++r) {
      if (static_cast<int>(r) < flat.inputs) {
        data[r] = axes[r].data();
      } else if (static_cast<int>(r) < known) {
        data[r] = &program_.code_->constants[r - flat.inputs];
      } else if (flat.kept[r] && std::popcount(flat.axes[r]) <= 1) {
        wide[r].resize(points(flat.axes[r], lengths_));
        data[r] = wide[r].data();
      }
    }
    for (const Group& group : flat.groups)
      if (std::popcount(group.axes) <= 1) run_group<dd>(flat, group, lengths_, data, threads);
    for (std::size_t r = 0; r < registers; ++r) {
      if (!data[r]) continue;
      const Size n = points(flat.axes[r], lengths_);
      stored_[r].resize(n);
      for (Size i = 0; i < n; ++i) stored_[r][i] = data[r][i].hi;
    }
  }
  std::vector<const double*> data(registers, nullptr);
  for (std::size_t r = 0; r < registers; ++r) {
    if (std::popcount(flat.axes[r]) > 1 && !(flat.axes[r] & 1) && flat.kept[r])
      stored_[r].resize(points(flat.axes[r], lengths_));
    data[r] = stored_[r].data();
  }
  for (const Group& group : flat.groups)
    if (std::popcount(group.axes) > 1 && !(group.axes & 1))
      run_group<double>(flat, group, lengths_, data, threads);
}

void SlabSampler::rows(Size begin, Size count, double* out) const {
  const FlatCode& flat = program_.code_->flat;
  std::vector<Size> lengths = lengths_;
  lengths[0] = count;
  const std::uint64_t all = (std::uint64_t{1} << flat.inputs) - 1;
  const std::size_t registers = flat.axes.size();
  std::vector<const double*> data(registers);
  std::vector<std::vector<double>> own;
  const auto result = static_cast<std::size_t>(flat.outputs[0]);
  for (std::size_t r = 0; r < registers; ++r) {
    data[r] = stored_[r].data();
    if (flat.axes[r] == 1 && data[r]) data[r] += begin;
    if (!flat.kept[r] || !(flat.axes[r] & 1) || std::popcount(flat.axes[r]) < 2) continue;
    if (r == result && flat.axes[r] == all) {
      data[r] = out;
    } else {
      own.emplace_back(points(flat.axes[r], lengths));
      data[r] = own.back().data();
    }
  }
  for (const Group& group : flat.groups)
    if ((group.axes & 1) && std::popcount(group.axes) > 1)
      run_group<double>(flat, group, lengths, data, 1);
  if (data[result] != out)
    expand(Broadcast(all, flat.axes[result], lengths), data[result], 0, points(all, lengths), out);
}

}  // namespace halfulp::detail
