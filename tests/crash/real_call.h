// The C library's function of a name, for a function of that name that stands before it (in the program, or preloaded).
#pragma once

#include <dlfcn.h>

#include <cstring>

namespace penstock {

template <class Function>
Function* real_call(const char* name) {
  void* found = dlsym(RTLD_NEXT, name);
  Function* function = nullptr;
  std::memcpy(&function, &found, sizeof function);
  return function;
}

}  // namespace penstock

#define REAL(name) ::penstock::real_call<decltype(::name)>(#name)
