# libtorch as the target flodl_libtorch: found, probed, and how it is linked. What depends on its version is probed
# here, once; no source file asks for version numbers.
#
# find_package(Torch) isn't used: for CUDA builds it demands a CUDA toolkit at configure time.
#
# CUDA. One macro, FLODL_CUDA, is defined for src/tensor when the CUDA part is to be built:
#   - libtorch has libtorch_cuda and all libraries that it needs   (it loads)
#   - libtorch has include/c10/cuda, and the CUDA headers are here  (it compiles)
# Then libtorch_cuda stays linked although nothing names it: its kernels register themselves when it is loaded.
# Where the CUDA headers are but libtorch_cuda isn't, the CUDA files of src/tensor are compiled all the same, into an
# object library of their own that is linked nowhere, so that they don't rot on machines without a GPU.
include(flodl_find_libtorch)
include(CheckCXXSourceCompiles)

set(FLODL_LIBTORCH "" CACHE PATH "folder of libtorch, with include/ and lib/; empty: search for one")
set(FLODL_CUDA AUTO CACHE STRING "the CUDA part: AUTO (where it can be built), ON (insist) or OFF")
set_property(CACHE FLODL_CUDA PROPERTY STRINGS AUTO ON OFF)

flodl_find_libtorch(${CMAKE_CURRENT_SOURCE_DIR})
if(NOT libtorch_dir)
  message(FATAL_ERROR "${libtorch_error}")
endif()
set(torch_include ${libtorch_dir}/include ${libtorch_dir}/include/torch/csrc/api/include)

# Another libtorch than last time: what was probed is void.
if(NOT "${FLODL_PROBED}" STREQUAL "${libtorch_dir} ${libtorch_version}")
  unset(FLODL_TORCH_CXX17 CACHE)
  unset(FLODL_CUDA_INCLUDE CACHE)
  set(FLODL_PROBED "${libtorch_dir} ${libtorch_version}" CACHE INTERNAL "libtorch that was probed")
endif()

# The C++ standard that its headers ask for.
set(CMAKE_REQUIRED_INCLUDES ${torch_include})
set(CMAKE_REQUIRED_FLAGS "-std=c++17 -w")
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
check_cxx_source_compiles("#include <c10/core/DispatchKeySet.h>\n#include <c10/util/intrusive_ptr.h>" FLODL_TORCH_CXX17)
unset(CMAKE_TRY_COMPILE_TARGET_TYPE)
unset(CMAKE_REQUIRED_FLAGS)
unset(CMAKE_REQUIRED_INCLUDES)
if(NOT FLODL_TORCH_CXX17)
  set(CMAKE_CXX_STANDARD 20)
endif()

add_library(flodl_libtorch INTERFACE)
target_include_directories(flodl_libtorch SYSTEM INTERFACE ${torch_include})
target_link_libraries(flodl_libtorch INTERFACE ${libtorch_dir}/lib/libtorch_cpu.so ${libtorch_dir}/lib/libc10.so)

# The C++ library's ABI, read off a symbol that carries it: a constructor that takes a std::string.
file(STRINGS ${libtorch_dir}/lib/libc10.so old_abi REGEX "_ZN3c105ErrorC[12]ENS_14SourceLocationESs" LIMIT_COUNT 1)
if(old_abi)
  target_compile_definitions(flodl_libtorch INTERFACE _GLIBCXX_USE_CXX11_ABI=0)
endif()

# ---- CUDA ----
set(cuda_missing "")
if(NOT FLODL_CUDA STREQUAL "OFF")
  get_filename_component(site ${libtorch_dir} DIRECTORY)
  file(GLOB wheel_cuda ${site}/nvidia/cu*/include ${site}/nvidia/cuda_runtime/include)
  find_path(FLODL_CUDA_INCLUDE cuda_runtime_api.h
    HINTS $ENV{CUDA_HOME}/include $ENV{CUDA_PATH}/include /usr/local/cuda/include ${wheel_cuda})
  if(NOT FLODL_CUDA_INCLUDE)
    set(cuda_missing "no CUDA headers (cuda_runtime_api.h)")
  elseif(NOT EXISTS ${libtorch_dir}/include/c10/cuda/CUDAStream.h)
    set(cuda_missing "libtorch without include/c10/cuda")
  endif()
  if(NOT cuda_missing)
    set(FLODL_CUDA_COMPILES TRUE)
  endif()
  if(NOT EXISTS ${libtorch_dir}/lib/libtorch_cuda.so)
    set(cuda_missing "libtorch without libtorch_cuda")
  elseif(NOT cuda_missing)
    execute_process(COMMAND ldd ${libtorch_dir}/lib/libtorch_cuda.so OUTPUT_VARIABLE needed ERROR_QUIET)
    string(REGEX MATCH "[^\n\t ]+ => not found" absent "${needed}")
    if(absent OR NOT needed)
      set(cuda_missing "libtorch_cuda lacks a library (${absent})")
    endif()
  endif()
  if(NOT cuda_missing)
    # The CUDA runtime that libtorch itself loads, else the toolkit's.
    string(REGEX MATCH "libcudart\\.so[^\n]* => ([^ \n]+)" cudart "${needed}")
    set(cudart ${CMAKE_MATCH_1})
    if(NOT EXISTS "${cudart}")
      set(cuda_missing "no CUDA runtime (libcudart)")
    endif()
  endif()
  if(cuda_missing AND FLODL_CUDA STREQUAL "ON")
    message(FATAL_ERROR "FLODL_CUDA=ON: ${cuda_missing} (libtorch: ${libtorch_dir})")
  endif()
else()
  set(cuda_missing "switched off")
endif()
if(cuda_missing)
  set(libtorch_links_cuda FALSE)
  message(STATUS "libtorch ${libtorch_version}: ${libtorch_dir} (CPU: ${cuda_missing})")
else()
  set(libtorch_links_cuda TRUE)
  # One word for the linker, so that CMake can't take the libraries out from between the two flags.
  target_link_libraries(flodl_libtorch INTERFACE ${cudart}
    "-Wl,--push-state,--no-as-needed,${libtorch_dir}/lib/libtorch_cuda.so,${libtorch_dir}/lib/libc10_cuda.so,--pop-state")
  target_compile_definitions(flodl_libtorch INTERFACE FLODL_CUDA)
  target_include_directories(flodl_libtorch SYSTEM INTERFACE ${FLODL_CUDA_INCLUDE})
  message(STATUS "libtorch ${libtorch_version}: ${libtorch_dir} (CUDA ${libtorch_cuda})")
endif()
