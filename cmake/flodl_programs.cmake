# Examples (examples/<name>/<name>.c) and benchmarks (benchmarks/<name>.c): one file each, public headers only. To add
# one is to add its file.
option(FLODL_EXAMPLES "build the examples and benchmarks" ${PROJECT_IS_TOP_LEVEL})
if(NOT FLODL_EXAMPLES)
  return()
endif()
function(flodl_add_program target name source folder)
  add_executable(${target} ${source})
  set_target_properties(${target} PROPERTIES OUTPUT_NAME ${name}
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/${folder})
  target_link_libraries(${target} PRIVATE flodl m)
  target_compile_definitions(${target} PRIVATE FLODL_SOURCE_DIR="${CMAKE_CURRENT_SOURCE_DIR}")
endfunction()

file(GLOB examples CONFIGURE_DEPENDS examples/*/*.c)
foreach(source ${examples})
  get_filename_component(name ${source} NAME_WE)
  flodl_add_program(${name} ${name} ${source} examples)
endforeach()

# A benchmark also measures libtorch itself, so that both sides stand in one program: <name>.c beside <name>_torch.cpp.
# The benchmark of whole steps has its models in files of their own.
file(GLOB benchmarks CONFIGURE_DEPENDS benchmarks/*.c)
foreach(source ${benchmarks})
  get_filename_component(name ${source} NAME_WE)
  flodl_add_program(bench_${name} ${name} ${source} benchmarks)
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/benchmarks/${name}_torch.cpp)
    target_sources(bench_${name} PRIVATE benchmarks/${name}_torch.cpp)
    set_source_files_properties(benchmarks/${name}_torch.cpp PROPERTIES COMPILE_DEFINITIONS NDEBUG)
    target_link_libraries(bench_${name} PRIVATE flodl_libtorch)
  endif()
endforeach()
file(GLOB models CONFIGURE_DEPENDS benchmarks/models/*.c)
target_sources(bench_step PRIVATE ${models})
