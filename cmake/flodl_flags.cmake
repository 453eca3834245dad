# Language levels, warnings, sanitizers, compiler cache.
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_CXX_STANDARD 17) # 20 where libtorch's headers ask for it: flodl_libtorch.cmake
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()

option(FLODL_WERROR "warnings are errors (the default preset; a newer compiler may warn of more)" OFF)
option(FLODL_STATIC "build libflodl.a as well" ON)
set(FLODL_SANITIZE "" CACHE STRING "sanitizers to build with: address,undefined or thread")

add_compile_definitions(_GNU_SOURCE)
add_compile_options(-Wall -Wextra -Wpedantic -Wshadow -fno-omit-frame-pointer)
if(FLODL_WERROR)
  add_compile_options(-Werror)
endif()
if(FLODL_SANITIZE)
  # Not enum: C callers may hand over any number, and the library answers with an error.
  add_compile_options(-fsanitize=${FLODL_SANITIZE} -fno-sanitize-recover=all -fno-sanitize=enum)
  add_link_options(-fsanitize=${FLODL_SANITIZE})
  # gcc sees uninitialised members of std::optional in libtorch once sanitizers are on.
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-Wno-maybe-uninitialized>)
endif()

# The cache is shared by all clones and build folders: paths below the clone count as relative.
find_program(CCACHE ccache)
if(CCACHE)
  set(launcher ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_CURRENT_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${launcher})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
endif()
