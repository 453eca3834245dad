# Finds libtorch: a folder with include/ and lib/ (PyTorch's wheel has it as torch/).
set(FLODL_LIBTORCH "$ENV{FLODL_LIBTORCH}" CACHE PATH "folder of libtorch, with include/ and lib/")
if(NOT EXISTS ${FLODL_LIBTORCH}/include/ATen/ATen.h)
  message(FATAL_ERROR "no libtorch at FLODL_LIBTORCH='${FLODL_LIBTORCH}': ./fdl build sets one up")
endif()

add_library(flodl_libtorch INTERFACE)
target_include_directories(flodl_libtorch SYSTEM INTERFACE ${FLODL_LIBTORCH}/include
                           ${FLODL_LIBTORCH}/include/torch/csrc/api/include)
target_link_libraries(flodl_libtorch INTERFACE ${FLODL_LIBTORCH}/lib/libtorch_cpu.so ${FLODL_LIBTORCH}/lib/libc10.so)
