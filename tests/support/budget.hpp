#pragma once

#include <cstdlib>
#include <fstream>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>

/// The limit of a row of validation/budgets.csv (`name,type,backend,region,metric,limit`); the
/// backend `any` stands for every one. Throws if there is no such row: a test without a budget is
/// an error of the test.
inline double budget(const std::string& file, const std::string& name, const std::string& type,
                     const std::string& backend) {
  std::ifstream in(file);
  if (!in) throw std::runtime_error(file + ": cannot be read");
  for (std::string line; std::getline(in, line);) {
    std::istringstream row(line);
    std::string cell[6];
    for (auto& c : cell) std::getline(row, c, ',');
    if (cell[0] == name && cell[1] == type && (cell[2] == backend || cell[2] == "any"))
      return std::stod(cell[5]);
  }
  throw std::runtime_error(file + ": no row " + name + ',' + type + ',' + backend);
}
