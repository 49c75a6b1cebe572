#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <numbers>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "halfulp/error.hpp"
#include "halfulp/expression.hpp"

/// Definitions of Program<T>. Needed only for a T other than double and dd, which the library has.
///
/// T needs + - * / and comparisons, construction from int and double, and the functions of the
/// grammar by argument-dependent lookup (only those that the formulas use are called, but all must
/// compile). How T gets a literal, pi and e is ProgramTraits<T>, which may be specialised.
namespace halfulp {

/// How a scalar type takes its constants. Every one is accurate to T's own precision.
template <class T>
struct ProgramTraits {
  /// A decimal literal such as "0.1" that no double-double holds exactly; `rounded` is the nearest
  /// double-double.
  static T literal(const std::string& decimal, [[maybe_unused]] dd rounded) {
    return T(decimal.c_str());
  }
  /// A number that is exactly hi + lo.
  static T exact(dd value) { return T(T(value.hi) + T(value.lo)); }
  static T pi() {
    using std::acos;
    return T(acos(T(-1)));
  }
  static T e() {
    using std::exp;
    return T(exp(T(1)));
  }
};

template <>
struct ProgramTraits<double> {
  static double literal(const std::string&, dd rounded) { return rounded.hi; }
  static double exact(dd value) { return value.hi; }
  static double pi() { return std::numbers::pi; }
  static double e() { return std::numbers::e; }
};

template <>
struct ProgramTraits<dd> {
  static dd literal(const std::string&, dd rounded) { return rounded; }
  static dd exact(dd value) { return value; }
  static dd pi() { return {0x1.921fb54442d18p+1, 0x1.1a62633145c07p-53}; }
  static dd e() { return {0x1.5bf0a8b145769p+1, 0x1.4d57ee2b1013ap-53}; }
};

namespace detail {

/// Node kinds of a formula and, with `power` and `expand`, instructions of its flat code.
enum class Op : unsigned char {
  // leaves
  number,
  pi,
  e,
  symbol,
  // operators
  negate,
  add,
  subtract,
  multiply,
  divide,
  pow,
  less,
  less_equal,
  greater,
  greater_equal,
  equal,
  not_equal,
  logical_and,
  logical_or,
  select,
  // functions
  sin,
  cos,
  tan,
  asin,
  acos,
  atan,
  atan2,
  sinh,
  cosh,
  tanh,
  asinh,
  acosh,
  atanh,
  exp,
  expm1,
  log,
  log10,
  log2,
  log1p,
  sqrt,
  cbrt,
  abs,
  sign,
  min,
  max,
  hypot,
  erf,
  erfc,
  step,
  floor,
  ceil,
  round,
  mod,
  // flat code only
  power,   // a^n for a small integer n
  expand,  // values on a sub-grid, repeated along the other axes
};

struct Literal {
  dd value;
  std::string text;  // empty: the number is exactly `value`; else its exact decimal
};

struct Instruction {
  Op op = Op::number;
  int a = -1, b = -1, c = -1;  // registers
  int n = 0;                   // exponent of power, index of a literal
};

/// Instructions of one sub-grid. Slots 0 .. scratch-1 are block buffers; slot scratch+i is the
/// array of register arrays[i], read and written in place.
struct Group {
  struct Step {
    Op op = Op::expand;
    int to = -1;                 // slot
    int a = -1, b = -1, c = -1;  // slots; for expand a register
    int n = 0;
  };
  std::uint64_t axes = 0;
  int scratch = 0;
  std::vector<int> arrays;
  std::vector<std::pair<int, int>> constants;  // register, slot: filled once a thread
  std::vector<Step> steps;
};

/// Registers are the inputs, then one an instruction; arguments precede their use.
struct FlatCode {
  int inputs = 0;
  int constants = 0;  // so many instructions, the first ones, depend on no input
  std::vector<Literal> literals;
  std::vector<Instruction> instructions;
  std::vector<std::uint64_t> axes;  // of each register: bit i set if it depends on input i
  std::vector<int> outputs;         // registers
  std::vector<Group> groups;        // arguments of a group come from earlier groups
  std::vector<bool> kept;           // registers whose whole array is read by another group
};

/// @throws DomainError if a formula has a symbol that is no input, or an input's name is bad
FlatCode flatten(std::span<const Expression> formulas, const std::vector<std::string>& inputs);

/// body(first, last) on contiguous parts of 0 .. count, one a thread; rethrows a thread's
/// exception.
void for_parts(std::ptrdiff_t count, int threads,
               const std::function<void(std::ptrdiff_t, std::ptrdiff_t)>& body);

/// dims and strides of register `source_axes` within the grid `axes` (C order)
struct Broadcast {
  std::vector<std::ptrdiff_t> length, stride;
  Broadcast(std::uint64_t grid, std::uint64_t source, std::span<const std::ptrdiff_t> lengths);
};

/// out[0 .. n) = values of a sub-grid at the points begin .. begin+n of the grid.
template <class T>
void expand(const Broadcast& map, const T* source, std::ptrdiff_t begin, std::ptrdiff_t n, T* out) {
  const std::ptrdiff_t rank = std::ssize(map.length);
  if (rank == 0) {
    std::fill(out, out + n, *source);
    return;
  }
  std::vector<std::ptrdiff_t> index(map.length.size());
  std::ptrdiff_t rest = begin, offset = 0;
  for (std::ptrdiff_t d = rank - 1; d >= 0; --d) {
    index[d] = rest % map.length[d];
    rest /= map.length[d];
    offset += index[d] * map.stride[d];
  }
  const std::ptrdiff_t last = rank - 1;
  for (std::ptrdiff_t done = 0; done < n;) {
    const std::ptrdiff_t run = std::min(n - done, map.length[last] - index[last]);
    if (map.stride[last] == 0)
      std::fill(out + done, out + done + run, source[offset]);
    else
      std::copy(source + offset, source + offset + run, out + done);
    done += run;
    index[last] += run;
    offset += run * map.stride[last];
    for (std::ptrdiff_t d = last; d >= 0 && index[d] == map.length[d]; --d) {
      offset -= index[d] * map.stride[d];
      index[d] = 0;
      if (d > 0) ++index[d - 1], offset += map.stride[d - 1];
    }
  }
}

template <class T>
bool is_nan(const T& x) {
  return x != x;
}

template <class T>
T integer_power(const T& x, int n) {
  T square = x, result = T(1);
  bool first = true;
  for (unsigned m = static_cast<unsigned>(n < 0 ? -n : n); m != 0; m >>= 1) {
    if (m & 1u) {
      result = first ? square : T(result * square);
      first = false;
    }
    if (m > 1) square = T(square * square);
  }
  return n < 0 ? T(T(1) / result) : result;
}

/// a^b as std::pow has it: the sign of a negative base to an integer power, 0^0 = 1.
template <class T>
T real_power(const T& a, const T& b) {
  using std::floor;
  using std::pow;
  if constexpr (std::is_floating_point_v<T>) {
    return pow(a, b);
  } else {
    if (b == T(0)) return T(1);
    if (a == T(0))
      return b > T(0) ? T(0) : b < T(0) ? T(std::numeric_limits<double>::infinity()) : b;
    if (!(a < T(0))) return T(pow(a, b));
    if (T(floor(b)) != b) return T(std::numeric_limits<double>::quiet_NaN());
    const T half = b / T(2), magnitude = pow(T(-a), b);
    return T(floor(half)) == half ? magnitude : T(-magnitude);
  }
}

/// a - b floor(a / b): the sign of b, as in Python.
template <class T>
T floor_mod(const T& a, const T& b) {
  using std::floor;
  if constexpr (std::is_floating_point_v<T>) {
    const T r = std::fmod(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
  } else if constexpr (std::is_same_v<T, dd>) {
    return mod(a, b);  // exact, kernel/dd_math.hpp
  } else {
    const T q = floor(T(a / b));
    return T(a - b * q);
  }
}

/// Sine and cosine of n angles, within 0.75 units in the last place; out may be x. Vectors, with
/// the same bits on every machine for angles up to 8e5; beyond, and where one is too near a zero of
/// the function, the C library's.
void sine(std::ptrdiff_t n, const double* x, double* out);
void cosine(std::ptrdiff_t n, const double* x, double* out);

/// out[i] = op(a[i], b[i], c[i]); out may be one of the arguments.
template <class T>
void apply(Op op, int n, const T* a, const T* b, const T* c, T* out, std::ptrdiff_t count) {
  using std::abs, std::sin, std::cos, std::tan, std::asin, std::acos, std::atan, std::atan2;
  using std::erf, std::erfc, std::floor, std::ceil, std::round;
  using std::exp, std::expm1, std::log, std::log10, std::log2, std::log1p, std::sqrt, std::cbrt;
  using std::sinh, std::cosh, std::tanh, std::asinh, std::acosh, std::atanh, std::hypot;
  const auto map = [&](auto f) {
    for (std::ptrdiff_t i = 0; i < count; ++i) out[i] = T(f(a[i]));
  };
  const auto map2 = [&](auto f) {
    for (std::ptrdiff_t i = 0; i < count; ++i) out[i] = T(f(a[i], b[i]));
  };
  const auto test = [&](auto f) {
    for (std::ptrdiff_t i = 0; i < count; ++i) out[i] = f(a[i], b[i]) ? T(1) : T(0);
  };
  using X = const T&;
  switch (op) {
    case Op::number:
    case Op::pi:
    case Op::e:
    case Op::symbol:
    case Op::expand:
      break;
    case Op::negate:
      return map([](X x) -> T { return -x; });
    case Op::add:
      return map2([](X x, X y) -> T { return x + y; });
    case Op::subtract:
      return map2([](X x, X y) -> T { return x - y; });
    case Op::multiply:
      return map2([](X x, X y) -> T { return x * y; });
    case Op::divide:
      return map2([](X x, X y) -> T { return x / y; });
    case Op::pow:
      return map2([](X x, X y) -> T { return real_power<T>(x, y); });
    case Op::power:
      if (n == 2) return map([](X x) -> T { return x * x; });
      return map([n](X x) -> T { return integer_power<T>(x, n); });
    case Op::less:
      return test([](X x, X y) { return x < y; });
    case Op::less_equal:
      return test([](X x, X y) { return x <= y; });
    case Op::greater:
      return test([](X x, X y) { return x > y; });
    case Op::greater_equal:
      return test([](X x, X y) { return x >= y; });
    case Op::equal:
      return test([](X x, X y) { return x == y; });
    case Op::not_equal:
      return test([](X x, X y) { return x != y; });
    case Op::logical_and:
      return map2([](X x, X y) -> T {
        return is_nan(x) ? x : is_nan(y) ? y : x != T(0) && y != T(0) ? T(1) : T(0);
      });
    case Op::logical_or:
      return map2([](X x, X y) -> T {
        return is_nan(x) ? x : is_nan(y) ? y : x != T(0) || y != T(0) ? T(1) : T(0);
      });
    case Op::select:
      for (std::ptrdiff_t i = 0; i < count; ++i)
        out[i] = is_nan(a[i]) ? a[i] : a[i] != T(0) ? b[i] : c[i];
      return;
    case Op::sin:
      if constexpr (std::is_same_v<T, double>) return sine(count, a, out);
      return map([](X x) -> T { return sin(x); });
    case Op::cos:
      if constexpr (std::is_same_v<T, double>) return cosine(count, a, out);
      return map([](X x) -> T { return cos(x); });
    case Op::tan:
      return map([](X x) -> T { return tan(x); });
    case Op::asin:
      return map([](X x) -> T { return asin(x); });
    case Op::acos:
      return map([](X x) -> T { return acos(x); });
    case Op::atan:
      return map([](X x) -> T { return atan(x); });
    case Op::atan2:
      return map2([](X x, X y) -> T { return atan2(x, y); });
    case Op::sinh:
      return map([](X x) -> T { return sinh(x); });
    case Op::cosh:
      return map([](X x) -> T { return cosh(x); });
    case Op::tanh:
      return map([](X x) -> T { return tanh(x); });
    case Op::asinh:
      return map([](X x) -> T { return asinh(x); });
    case Op::acosh:
      return map([](X x) -> T { return acosh(x); });
    case Op::atanh:
      return map([](X x) -> T { return atanh(x); });
    case Op::exp:
      return map([](X x) -> T { return exp(x); });
    case Op::expm1:
      return map([](X x) -> T { return expm1(x); });
    case Op::log:
      return map([](X x) -> T { return log(x); });
    case Op::log10:
      return map([](X x) -> T { return log10(x); });
    case Op::log2:
      return map([](X x) -> T { return log2(x); });
    case Op::log1p:
      return map([](X x) -> T { return log1p(x); });
    case Op::sqrt:
      return map([](X x) -> T { return sqrt(x); });
    case Op::cbrt:
      return map([](X x) -> T { return cbrt(x); });
    case Op::abs:
      return map([](X x) -> T { return abs(x); });
    case Op::sign:
      return map([](X x) -> T {
        return x > T(0) ? T(1) : x < T(0) ? T(-1) : x == T(0) ? T(0) : x;
      });
    case Op::min:
      return map2([](X x, X y) -> T { return is_nan(x) || is_nan(y) ? T(x + y) : x <= y ? x : y; });
    case Op::max:
      return map2([](X x, X y) -> T { return is_nan(x) || is_nan(y) ? T(x + y) : x >= y ? x : y; });
    case Op::hypot:
      return map2([](X x, X y) -> T { return hypot(x, y); });
    case Op::erf:
      return map([](X x) -> T { return erf(x); });
    case Op::erfc:
      return map([](X x) -> T { return erfc(x); });
    case Op::step:
      return map([](X x) -> T { return x >= T(0) ? T(1) : x < T(0) ? T(0) : x; });
    case Op::floor:
      return map([](X x) -> T { return floor(x); });
    case Op::ceil:
      return map([](X x) -> T { return ceil(x); });
    case Op::round:
      return map([](X x) -> T { return round(x); });
    case Op::mod:
      return map2([](X x, X y) -> T { return floor_mod<T>(x, y); });
  }
}

}  // namespace detail

template <class T>
struct Program<T>::Code {
  detail::FlatCode flat;
  std::vector<T> constants;

  /// registers[i]: value of register i; constants are there already.
  void run(T* registers) const {
    for (std::size_t i = flat.constants; i < flat.instructions.size(); ++i) step(i, registers);
  }
  void step(std::size_t i, T* r) const {
    const detail::Instruction& s = flat.instructions[i];
    const auto at = [&](int k) { return k < 0 ? nullptr : r + k; };
    detail::apply<T>(s.op, s.n, at(s.a), at(s.b), at(s.c), r + flat.inputs + i, 1);
  }
};

template <class T>
Program<T>::Program(std::span<const Expression> formulas, std::vector<std::string> inputs) {
  auto code = std::make_shared<Code>();
  code->flat = detail::flatten(formulas, inputs);
  const detail::FlatCode& flat = code->flat;
  std::vector<T> registers(flat.inputs + flat.constants, T(0));
  for (int i = 0; i < flat.constants; ++i) {
    const detail::Instruction& s = flat.instructions[i];
    T& to = registers[flat.inputs + i];
    if (s.op == detail::Op::number) {
      const detail::Literal& literal = flat.literals[s.n];
      to = literal.text.empty() ? ProgramTraits<T>::exact(literal.value)
                                : ProgramTraits<T>::literal(literal.text, literal.value);
    } else if (s.op == detail::Op::pi) {
      to = ProgramTraits<T>::pi();
    } else if (s.op == detail::Op::e) {
      to = ProgramTraits<T>::e();
    } else {
      code->step(i, registers.data());
    }
  }
  code->constants.assign(registers.begin() + flat.inputs, registers.end());
  code_ = std::move(code);
}

template <class T>
Program<T>::Program(const Expression& formula, std::vector<std::string> inputs)
    : Program(std::span<const Expression>(&formula, 1), std::move(inputs)) {}

template <class T>
std::ptrdiff_t Program<T>::outputs() const {
  return std::ssize(code_->flat.outputs);
}

template <class T>
void Program<T>::operator()(std::span<const T> inputs, std::span<T> out) const {
  const detail::FlatCode& flat = code_->flat;
  if (std::ssize(inputs) != flat.inputs)
    throw ShapeError("Program::operator()", "inputs", std::ssize(inputs), flat.inputs);
  if (out.size() != flat.outputs.size())
    throw ShapeError("Program::operator()", "out", std::ssize(out), outputs());
  const auto run = [&](T* registers) {
    std::copy(inputs.begin(), inputs.end(), registers);
    std::copy(code_->constants.begin(), code_->constants.end(), registers + flat.inputs);
    code_->run(registers);
    for (std::size_t k = 0; k < out.size(); ++k) out[k] = registers[flat.outputs[k]];
  };
  const std::size_t count = flat.inputs + flat.instructions.size();
  if constexpr (std::is_trivially_copyable_v<T>) {
    constexpr std::size_t small = 128;  // no allocation for a formula of usual size
    if (count <= small) {
      T registers[small];
      return run(registers);
    }
  }
  std::vector<T> registers(count, T(0));
  run(registers.data());
}

template <class T>
T Program<T>::operator()(std::span<const T> inputs) const {
  if (outputs() == 1) {
    T value = T(0);
    (*this)(inputs, std::span<T>(&value, 1));
    return value;
  }
  if (outputs() == 0) throw DomainError("Program::operator()", "outputs()", "0", "at least 1");
  std::vector<T> values(code_->flat.outputs.size(), T(0));
  (*this)(inputs, std::span<T>(values));
  return values.front();
}

template <class T>
void Program<T>::on_grid(std::span<const std::vector<T>> axes, std::span<T> out,
                         int threads) const {
  const detail::FlatCode& flat = code_->flat;
  if (std::ssize(axes) != flat.inputs)
    throw ShapeError("Program::on_grid", "axes", std::ssize(axes), flat.inputs);
  if (threads < 0)
    throw DomainError("Program::on_grid", "threads", std::to_string(threads), ">= 0");
  std::vector<std::ptrdiff_t> lengths;
  for (const auto& axis : axes) lengths.push_back(std::ssize(axis));
  const auto points = [&](std::uint64_t set) {
    std::ptrdiff_t n = 1;
    for (std::size_t d = 0; d < lengths.size(); ++d)
      if (set >> d & 1 && __builtin_mul_overflow(n, lengths[d], &n))
        n = std::numeric_limits<std::ptrdiff_t>::max();
    return n;
  };
  const std::uint64_t all =
      flat.inputs == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << flat.inputs) - 1;
  if (std::find(lengths.begin(), lengths.end(), 0) != lengths.end()) {
    if (!out.empty()) throw ShapeError("Program::on_grid", "out", std::ssize(out), 0);
    return;
  }
  const std::ptrdiff_t total = points(all);
  std::ptrdiff_t needed = 0;
  if (__builtin_mul_overflow(total, outputs(), &needed))
    needed = std::numeric_limits<std::ptrdiff_t>::max();
  if (std::ssize(out) != needed)
    throw ShapeError("Program::on_grid", "out", std::ssize(out), needed);

  // Where the values of a register lie: the caller's axes, the constants, `out`, or an array here.
  std::vector<const T*> data(flat.axes.size(), nullptr);
  std::vector<std::vector<T>> stored(flat.axes.size());
  std::vector<bool> written(flat.outputs.size(), false);
  for (int i = 0; i < flat.inputs; ++i) data[i] = axes[i].data();
  for (int i = 0; i < flat.constants; ++i) data[flat.inputs + i] = &code_->constants[i];
  std::vector<T*> target(flat.axes.size(), nullptr);
  for (std::size_t k = 0; k < flat.outputs.size(); ++k) {
    const int r = flat.outputs[k];
    if (r < flat.inputs + flat.constants || flat.axes[r] != all || target[r]) continue;
    data[r] = target[r] = out.data() + static_cast<std::ptrdiff_t>(k) * total;
    written[k] = true;
  }
  for (std::size_t r = flat.inputs + flat.constants; r < flat.axes.size(); ++r) {
    if (!flat.kept[r] || target[r]) continue;
    stored[r].assign(points(flat.axes[r]), T(0));
    data[r] = target[r] = stored[r].data();
  }

  constexpr std::ptrdiff_t cache = 128 * 1024;  // bytes of block buffers: half a usual L2
  const auto block_size = [&](int buffers) {
    const std::ptrdiff_t n = cache / static_cast<std::ptrdiff_t>(sizeof(T) * (buffers + 1));
    return std::clamp<std::ptrdiff_t>(n / 8 * 8, 64, 1024);
  };
  for (const detail::Group& group : flat.groups) {
    const std::ptrdiff_t count = points(group.axes),
                         size = std::min(block_size(group.scratch), count);
    std::vector<detail::Broadcast> maps;
    for (const auto& s : group.steps)
      if (s.op == detail::Op::expand) maps.emplace_back(group.axes, flat.axes[s.a], lengths);
    detail::for_parts(
        (count + size - 1) / size, threads, [&](std::ptrdiff_t first, std::ptrdiff_t last) {
          std::vector<T> buffers(static_cast<std::size_t>(group.scratch * size), T(0));
          std::vector<T*> slots(group.scratch + group.arrays.size());
          for (int s = 0; s < group.scratch; ++s) slots[s] = buffers.data() + s * size;
          for (const auto& [r, slot] : group.constants)
            std::fill(slots[slot], slots[slot] + size, *data[r]);
          for (std::ptrdiff_t block = first; block < last; ++block) {
            const std::ptrdiff_t begin = block * size, n = std::min(size, count - begin);
            for (std::size_t i = 0; i < group.arrays.size(); ++i)
              slots[group.scratch + i] = const_cast<T*>(data[group.arrays[i]]) + begin;
            std::size_t map = 0;
            for (const auto& s : group.steps) {
              const auto at = [&](int slot) { return slot < 0 ? nullptr : slots[slot]; };
              if (s.op == detail::Op::expand)
                detail::expand(maps[map++], data[s.a], begin, n, slots[s.to]);
              else
                detail::apply<T>(s.op, s.n, at(s.a), at(s.b), at(s.c), slots[s.to], n);
            }
          }
        });
  }

  // Formulas that do not depend on every axis, and repeated formulas.
  constexpr std::ptrdiff_t chunk = 4096;
  for (std::size_t k = 0; k < flat.outputs.size(); ++k) {
    if (written[k]) continue;
    const int r = flat.outputs[k];
    T* to = out.data() + static_cast<std::ptrdiff_t>(k) * total;
    const detail::Broadcast map(all, flat.axes[r], lengths);
    detail::for_parts((total + chunk - 1) / chunk, threads,
                      [&](std::ptrdiff_t first, std::ptrdiff_t last) {
                        const std::ptrdiff_t begin = first * chunk;
                        const std::ptrdiff_t n = std::min(last * chunk, total) - begin;
                        detail::expand(map, data[r], begin, n, to + begin);
                      });
  }
}

extern template class Program<double>;
extern template class Program<dd>;

}  // namespace halfulp
