// Uses an installed halfulp: built once through find_package and once through pkg-config.
#include <halfulp/error.hpp>
#include <halfulp/kernel/dd.hpp>
#include <iostream>

int main() {
  const halfulp::dd third = halfulp::dd(1.0) / halfulp::dd(3.0);
  const halfulp::dd error = third * halfulp::dd(3.0) - 1.0;
  if (!(std::fabs(error.hi) < 1e-31)) return 1;
  try {
    throw halfulp::DomainError("consumer", "x", -1.0, ">= 0");
  } catch (const halfulp::Error& e) {
    std::cout << e.what() << '\n';
  }
}
