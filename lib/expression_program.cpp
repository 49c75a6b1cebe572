#include "halfulp/expression_program.hpp"

#include <omp.h>

#include <bit>
#include <exception>
#include <map>
#include <tuple>
#include <unordered_map>

#include "detail/expression_node.hpp"
#include "halfulp/kernel/dd_math.hpp"

namespace halfulp {
namespace detail {
namespace {

/// Exponents up to this are multiplied out: at most 4 squarings and 3 products.
constexpr double largest_multiplied_out = 16;

bool multiplied_out(const NodePtr& exponent) {
  if (!is_exact(exponent) || exponent->number.value.lo != 0) return false;
  const double n = exponent->number.value.hi;
  return n == std::floor(n) && std::fabs(n) <= largest_multiplied_out;
}

/// Value numbering: equal operations on equal registers are one instruction.
class Flattener {
 public:
  explicit Flattener(const std::vector<std::string>& inputs) {
    code_.inputs = static_cast<int>(inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (!is_identifier(inputs[i]))
        throw DomainError("Program", "inputs", inputs[i],
                          "a letter or '_', then letters, digits and '_'");
      if (!input_.emplace(inputs[i], static_cast<int>(i)).second)
        throw DomainError("Program", "inputs", inputs[i], "given once");
      code_.axes.push_back(std::uint64_t{1} << i);
    }
  }

  void add(const Expression& formula) {
    post_order(formula.node(), seen_, [&](const NodePtr& n) { emit(n); });
    code_.outputs.push_back(register_.at(formula.node().get()));
  }

  FlatCode finish() {
    constants_first();
    make_groups();
    return std::move(code_);
  }

 private:
  struct Key {
    Instruction s;
    bool operator==(const Key& o) const {
      return s.op == o.s.op && s.a == o.s.a && s.b == o.s.b && s.c == o.s.c && s.n == o.s.n;
    }
  };
  struct KeyHash {
    std::size_t operator()(const Key& k) const {
      std::uint64_t h = static_cast<std::uint64_t>(k.s.op);
      for (const int v : {k.s.a, k.s.b, k.s.c, k.s.n}) {
        h = (h ^ static_cast<std::uint32_t>(v)) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
      }
      return h;
    }
  };

  void emit(const NodePtr& n) {
    int& to = register_[n.get()];
    Instruction s;
    s.op = n->op;
    if (n->op == Op::symbol) {
      const auto at = input_.find(n->name);
      if (at == input_.end()) {
        std::string names;
        for (const auto& [name, unused] : input_) names += (names.empty() ? "" : ", ") + name;
        throw DomainError("Program", "inputs", '{' + names + '}',
                          "all symbols of the formulas: '" + n->name + "' is missing");
      }
      to = at->second;
      return;
    }
    if (n->op == Op::number) {
      const auto& l = n->number;
      const auto key = std::tuple(std::bit_cast<std::uint64_t>(l.value.hi),
                                  std::bit_cast<std::uint64_t>(l.value.lo), l.text);
      const auto [at, added] = literal_.emplace(key, static_cast<int>(code_.literals.size()));
      if (added) code_.literals.push_back(l);
      s.n = at->second;
    }
    const auto arg = [&](int i) { return i < n->arity ? register_.at(n->args[i].get()) : -1; };
    s.a = arg(0), s.b = arg(1), s.c = arg(2);
    if (n->op == Op::pow && multiplied_out(n->args[1])) {
      s.op = Op::power;
      s.n = static_cast<int>(n->args[1]->number.value.hi);
      s.b = -1;
    }
    const bool commutes = s.op == Op::add || s.op == Op::multiply;
    if (commutes && s.a > s.b) std::swap(s.a, s.b);
    const auto [at, added] = instruction_.emplace(Key{s}, next_register());
    if (added) {
      std::uint64_t axes = 0;
      for (const int r : {s.a, s.b, s.c}) axes |= r < 0 ? 0 : code_.axes[r];
      code_.axes.push_back(axes);
      code_.instructions.push_back(s);
    }
    to = at->second;
  }

  int next_register() const { return static_cast<int>(code_.axes.size()); }

  /// Drops what nothing uses and puts the constants before the rest.
  void constants_first() {
    const int n = code_.inputs, count = static_cast<int>(code_.instructions.size());
    std::vector<bool> used(code_.axes.size(), false);
    for (const int r : code_.outputs) used[r] = true;
    for (int i = count - 1; i >= 0; --i) {
      const Instruction& s = code_.instructions[i];
      if (!used[n + i]) continue;
      for (const int r : {s.a, s.b, s.c})
        if (r >= 0) used[r] = true;
    }
    std::vector<int> renamed(code_.axes.size(), -1);
    for (int i = 0; i < n; ++i) renamed[i] = i;
    std::vector<Instruction> ordered;
    std::vector<std::uint64_t> axes(code_.axes.begin(), code_.axes.begin() + n);
    for (const bool constant : {true, false}) {
      for (int i = 0; i < count; ++i) {
        if (!used[n + i] || (code_.axes[n + i] == 0) != constant) continue;
        Instruction s = code_.instructions[i];
        for (int* r : {&s.a, &s.b, &s.c})
          if (*r >= 0) *r = renamed[*r];
        renamed[n + i] = n + static_cast<int>(ordered.size());
        ordered.push_back(s);
        axes.push_back(code_.axes[n + i]);
      }
      if (constant) code_.constants = static_cast<int>(ordered.size());
    }
    code_.instructions = std::move(ordered);
    code_.axes = std::move(axes);
    for (int& r : code_.outputs) r = renamed[r];
  }

  void make_groups() {
    const int n = code_.inputs, count = static_cast<int>(code_.instructions.size());
    code_.kept.assign(code_.axes.size(), false);
    slot_.assign(code_.axes.size(), -1);
    last_use_.assign(code_.axes.size(), -1);
    for (const int r : code_.outputs) code_.kept[r] = true;
    std::map<std::pair<int, std::uint64_t>, std::vector<int>> members;  // fewer axes first
    for (int i = code_.constants; i < count; ++i) {
      const Instruction& s = code_.instructions[i];
      const std::uint64_t axes = code_.axes[n + i];
      members[{std::popcount(axes), axes}].push_back(i);
      for (const int r : {s.a, s.b, s.c})
        if (r >= n && code_.axes[r] != axes) code_.kept[r] = true;
    }
    for (int r = 0; r < n + code_.constants; ++r) code_.kept[r] = false;  // they have their arrays
    for (const auto& [key, instructions] : members)
      code_.groups.push_back(group(key.second, instructions));
  }

  /// Slots for the registers of a group: scratch is reused after the last use of its value.
  Group group(std::uint64_t axes, const std::vector<int>& instructions) {
    const int n = code_.inputs;
    std::vector<int>&slot = slot_,
    &last_use = last_use_;  // by register; slots are -1 between groups
    std::unordered_map<int, int> array;
    for (const int i : instructions) {
      const Instruction& s = code_.instructions[i];
      for (const int r : {s.a, s.b, s.c})
        if (r >= 0) last_use[r] = i;
    }
    Group g;
    g.axes = axes;
    std::vector<int> free;
    const auto take = [&] {
      if (free.empty()) return g.scratch++;
      const int s = free.back();
      free.pop_back();
      return s;
    };
    const auto is_array = [&](int r) { return code_.axes[r] == axes && (r < n || code_.kept[r]); };
    const auto array_slot = [&](int r) {  // numbered from -2 down until scratch is known
      const auto [at, added] = array.emplace(r, static_cast<int>(g.arrays.size()));
      if (added) g.arrays.push_back(r);
      return -2 - at->second;
    };
    for (const int i : instructions) {
      const Instruction& s = code_.instructions[i];
      const auto argument = [&](int r) {
        if (r < 0) return -1;
        if (is_array(r)) return array_slot(r);
        if (slot[r] >= 0) return slot[r];
        // A constant is filled in once for all blocks: its slot is its own.
        const int to = code_.axes[r] == 0 ? g.scratch++ : take();
        slot[r] = to;
        if (code_.axes[r] == 0)
          g.constants.emplace_back(r, to);
        else
          g.steps.push_back({Op::expand, to, r, -1, -1, 0});
        return to;
      };
      Group::Step step{s.op, -1, argument(s.a), argument(s.b), argument(s.c), s.n};
      for (const int r : {s.a, s.b, s.c}) {
        if (r < 0 || slot[r] < 0 || last_use[r] != i || code_.axes[r] == 0) continue;
        free.push_back(slot[r]);
        slot[r] = -1;
      }
      const int r = n + i;
      step.to = is_array(r) ? array_slot(r) : take();
      if (!is_array(r)) slot[r] = step.to;
      g.steps.push_back(step);
    }
    for (const auto& [r, unused] : g.constants) slot[r] = -1;
    for (auto& step : g.steps) {
      const auto settle = [&](int& s) { s = s < -1 ? g.scratch + (-2 - s) : s; };
      settle(step.to);
      if (step.op == Op::expand) continue;
      settle(step.a), settle(step.b), settle(step.c);
    }
    return g;
  }

  FlatCode code_;
  std::vector<int> slot_, last_use_;
  std::map<std::string, int> input_;
  std::unordered_map<const Node*, int> register_;
  std::unordered_set<const Node*> seen_;
  std::unordered_map<Key, int, KeyHash> instruction_;
  std::map<std::tuple<std::uint64_t, std::uint64_t, std::string>, int> literal_;
};

}  // namespace

FlatCode flatten(std::span<const Expression> formulas, const std::vector<std::string>& inputs) {
  constexpr std::size_t most = 64;  // a set of axes is a 64-bit word
  if (inputs.size() > most)
    throw DomainError("Program", "inputs.size()", std::to_string(inputs.size()), "<= 64");
  Flattener flattener(inputs);
  for (const Expression& f : formulas) flattener.add(f);
  return flattener.finish();
}

Broadcast::Broadcast(std::uint64_t grid, std::uint64_t source,
                     std::span<const std::ptrdiff_t> lengths) {
  std::ptrdiff_t next = 1;
  for (std::size_t d = lengths.size(); d-- > 0;) {
    if (!(grid >> d & 1)) continue;
    const bool here = source >> d & 1;
    length.insert(length.begin(), lengths[d]);
    stride.insert(stride.begin(), here ? next : 0);
    if (here) next *= lengths[d];
  }
}

void for_parts(std::ptrdiff_t count, int threads,
               const std::function<void(std::ptrdiff_t, std::ptrdiff_t)>& body) {
  const int team = static_cast<int>(
      std::min<std::ptrdiff_t>(threads > 0 ? threads : omp_get_max_threads(), count));
  if (team <= 1) {
    if (count > 0) body(0, count);
    return;
  }
  std::exception_ptr failure;
#pragma omp parallel num_threads(team)
  {
    // OpenMP may give fewer threads than asked for.
    const std::ptrdiff_t given = omp_get_num_threads(), me = omp_get_thread_num();
    try {
      const std::ptrdiff_t first = count * me / given, last = count * (me + 1) / given;
      if (first < last) body(first, last);
    } catch (...) {
#pragma omp critical(halfulp_expression_failure)
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace detail

template class Program<double>;
template class Program<dd>;

}  // namespace halfulp
