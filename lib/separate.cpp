#include "detail/separate.hpp"

#include <bit>
#include <unordered_map>

#include "detail/expression_node.hpp"

namespace halfulp::detail {
namespace {

using Term = std::vector<Expression>;  // one factor a symbol

struct Separated {
  std::uint64_t symbols = 0;  // bit k: depends on names[k]
  std::optional<std::vector<Term>> terms;
};

class Separator {
 public:
  Separator(const std::vector<std::string>& names, std::size_t most) : names_(names), most_(most) {}

  std::optional<std::vector<Term>> operator()(const NodePtr& root) {
    post_order(root, [&](const NodePtr& n) { known_[n.get()] = separate(n); });
    return known_.at(root.get()).terms;
  }

 private:
  using Terms = std::optional<std::vector<Term>>;

  Term ones() const { return Term(names_.size(), Expression(1.0)); }

  Terms product(const Terms& a, const Terms& b) const {
    if (!a || !b || a->size() * b->size() > most_) return std::nullopt;
    std::vector<Term> out;
    for (const Term& s : *a)
      for (const Term& t : *b) {
        Term p;
        for (std::size_t k = 0; k < s.size(); ++k) p.push_back(s[k] * t[k]);
        out.push_back(std::move(p));
      }
    return out;
  }

  Terms sum(const Terms& a, const Terms& b, double sign) const {
    if (!a || !b || a->size() + b->size() > most_) return std::nullopt;
    std::vector<Term> out = *a;
    for (Term t : *b) {
      t[0] = Expression(sign) * t[0];
      out.push_back(std::move(t));
    }
    return out;
  }

  // f(g) factor by factor, where g is one product.
  template <class F>
  Terms each_factor(const Terms& g, const F& f) const {
    if (!g || g->size() != 1) return std::nullopt;
    Term t;
    for (const Expression& factor : g->front()) t.push_back(f(factor));
    return std::vector<Term>{std::move(t)};
  }

  // g as a sum of functions of one symbol each.
  std::optional<Term> by_symbol(const Terms& g) const {
    if (!g) return std::nullopt;
    Term parts(names_.size(), Expression(0.0));
    for (const Term& t : *g) {
      std::size_t at = 0, varying = 0;
      Expression all(1.0);
      for (std::size_t k = 0; k < t.size(); ++k) {
        if (!t[k].is_constant()) ++varying, at = k;
        all = all * t[k];
      }
      if (varying > 1) return std::nullopt;
      parts[at] = parts[at] + all;
    }
    return parts;
  }

  static Expression call(Op op, const Expression& a) { return Expression(make(op, a.node())); }

  Separated separate(const NodePtr& n) const {
    Separated out;
    if (n->op == Op::symbol)
      for (std::size_t k = 0; k < names_.size(); ++k)
        if (n->name == names_[k]) out.symbols = std::uint64_t{1} << k;
    const auto arg = [&](int i) -> const Separated& { return known_.at(n->args[i].get()); };
    for (int i = 0; i < n->arity; ++i) out.symbols |= arg(i).symbols;
    if (std::popcount(out.symbols) <= 1) {
      Term t = ones();
      t[out.symbols == 0 ? 0 : std::countr_zero(out.symbols)] = Expression(n);
      out.terms = {std::move(t)};
      return out;
    }
    switch (n->op) {
      case Op::negate: {
        Term minus = ones();
        minus[0] = Expression(-1.0);
        out.terms = product(arg(0).terms, std::vector<Term>{std::move(minus)});
        break;
      }
      case Op::add:
        out.terms = sum(arg(0).terms, arg(1).terms, 1);
        break;
      case Op::subtract:
        out.terms = sum(arg(0).terms, arg(1).terms, -1);
        break;
      case Op::multiply:
        out.terms = product(arg(0).terms, arg(1).terms);
        break;
      case Op::divide:
        out.terms = product(arg(0).terms, each_factor(arg(1).terms, [](const Expression& e) {
                              return Expression(1.0) / e;
                            }));
        break;
      case Op::pow: {
        // Whole powers only: others of a product are not the product of powers of negative factors.
        const NodePtr& exponent = n->args[1];
        if (!is_exact(exponent) || exponent->number.value.lo != 0) break;
        const double power = exponent->number.value.hi;
        if (power != static_cast<int>(power)) break;
        if (arg(0).terms && arg(0).terms->size() == 1) {
          out.terms = each_factor(arg(0).terms, [&](const Expression& e) {
            return Expression(make(Op::pow, e.node(), exponent));
          });
        } else if (power >= 2 && power <= 4) {
          out.terms = arg(0).terms;
          for (int i = 1; i < static_cast<int>(power); ++i)
            out.terms = product(out.terms, arg(0).terms);
        }
        break;
      }
      case Op::exp:
        if (const auto parts = by_symbol(arg(0).terms)) {
          Term t;
          for (const Expression& part : *parts) t.push_back(call(Op::exp, part));
          out.terms = {std::move(t)};
        }
        break;
      case Op::sin:
      case Op::cos:
        if (const auto parts = by_symbol(arg(0).terms)) {
          // Sine and cosine of the sum so far.
          std::vector<Term> sine, cosine{ones()};
          for (std::size_t k = 0; k < parts->size(); ++k) {
            if ((*parts)[k].is_zero()) continue;
            const auto times = [&](std::vector<Term> terms, const Expression& by) {
              for (Term& t : terms) t[k] = t[k] * by;
              return terms;
            };
            const auto join = [](std::vector<Term> a, std::vector<Term> b) {
              a.insert(a.end(), b.begin(), b.end());
              return a;
            };
            const Expression s = call(Op::sin, (*parts)[k]), c = call(Op::cos, (*parts)[k]);
            std::vector<Term> next = join(times(sine, c), times(cosine, s));
            cosine = join(times(cosine, c), times(sine, -s));
            sine = std::move(next);
          }
          out.terms = n->op == Op::sin ? std::move(sine) : std::move(cosine);
        }
        break;
      default:
        break;
    }
    if (out.terms && out.terms->size() > most_) out.terms.reset();
    return out;
  }

  const std::vector<std::string>& names_;
  std::size_t most_;
  std::unordered_map<const Node*, Separated> known_;
};

}  // namespace

std::optional<std::vector<std::vector<Expression>>> separate(const Expression& formula,
                                                             const std::vector<std::string>& names,
                                                             std::size_t most) {
  return Separator(names, most)(formula.node());
}

}  // namespace halfulp::detail
