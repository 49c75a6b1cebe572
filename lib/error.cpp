#include "halfulp/error.hpp"

namespace halfulp {}
