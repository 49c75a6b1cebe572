#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "halfulp/expression.hpp"
#include "halfulp/expression_program.hpp"

/// The tree behind Expression: shared by the simplifier, the parser and the compiler.
namespace halfulp::detail {

using NodePtr = std::shared_ptr<const Node>;

/// Nodes are immutable and shared, so a formula is a directed acyclic graph. A node stands for the
/// tree below it; walks visit a node once (post_order), never recursively: a sum of 30 000 terms
/// is 30 000 deep.
struct Node {
  Op op = Op::number;
  int arity = 0;
  std::array<NodePtr, 3> args;
  Literal number;          // of Op::number
  std::string name;        // of Op::symbol
  std::uint64_t hash = 0;  // of the structure
  double tree_size = 1;    // nodes counted as a tree: what text() would print

  Node() = default;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  ~Node();
};

struct FunctionInfo {
  std::string_view name;
  Op op;
  int min_arity, max_arity;  // max_arity -1: any number, folded from the left
};
/// Every name that may be called, in the order of the grammar.
std::span<const FunctionInfo> functions();
/// nullptr if there is none of that name.
const FunctionInfo* find_function(std::string_view name);
/// Name of an Op that is written as a call, "" for the others.
std::string_view function_name(Op op);

bool is_identifier(std::string_view name);
bool is_reserved(std::string_view name);

NodePtr make_number(dd exact);
/// A number as written, without sign: decimal or C99 hex float; exact when a double-double holds
/// it. nullptr if it is beyond the range of double (or a hex float needs more than a dd).
NodePtr make_literal(std::string_view text);
NodePtr make_symbol(std::string name);
/// The node of op applied to the arguments after simplification: exact mathematics only.
NodePtr make(Op op, NodePtr a = nullptr, NodePtr b = nullptr, NodePtr c = nullptr);

/// Structural equality.
bool same(const NodePtr& a, const NodePtr& b);

inline bool is_number(const NodePtr& n) { return n->op == Op::number; }
/// A number that is exactly its dd.
inline bool is_exact(const NodePtr& n) { return is_number(n) && n->number.text.empty(); }
inline bool is_value(const NodePtr& n, double v) { return is_exact(n) && n->number.value == dd(v); }

/// visit(node) once for each node, arguments first.
template <class Visit>
void post_order(const NodePtr& root, std::unordered_set<const Node*>& seen, Visit&& visit) {
  if (!seen.insert(root.get()).second) return;
  std::vector<std::pair<const NodePtr*, int>> stack{{&root, 0}};
  while (!stack.empty()) {
    auto& [node, next] = stack.back();
    if (next < (*node)->arity) {
      const NodePtr& child = (*node)->args[next++];
      if (seen.insert(child.get()).second) stack.emplace_back(&child, 0);
    } else {
      const NodePtr& done = *node;
      stack.pop_back();
      visit(done);
    }
  }
}
template <class Visit>
void post_order(const NodePtr& root, Visit&& visit) {
  std::unordered_set<const Node*> seen;
  post_order(root, seen, visit);
}

}  // namespace halfulp::detail
