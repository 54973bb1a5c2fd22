# The CUDA library; included only where it is wanted, so that a machine without nvcc or a C++ compiler never gets here.

# Named here so that CMake's own compiler test builds for one architecture that every supported nvcc knows.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80)
endif()
enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 11.8)
  set(af_too_old "nvcc ${CMAKE_CUDA_COMPILER_VERSION} is too old for the CUDA kernels; wanted 11.8 or newer")
  if(af_want_cuda STREQUAL "1")
    message(FATAL_ERROR "${af_too_old}")
  endif()
  message(STATUS "avatarfit: no CUDA kernels: ${af_too_old}")
  return()
endif()

# Ampere, Ada and Hopper as machine code; anything newer compiles Hopper's PTX when it first loads the library.
set(AVATARFIT_CUDA_ARCHITECTURES "80-real;86-real;89-real;90" CACHE STRING "CUDA architectures of the kernels")

add_library(avatarfit_cuda MODULE cuda/kernels.cu cuda/sort.cu)
target_include_directories(avatarfit_cuda PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_features(avatarfit_cuda PRIVATE cuda_std_17)
# nvcc compiles the architectures of a file side by side.
target_compile_options(avatarfit_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--threads=4>)
string(REPLACE ";" " " af_architectures "${AVATARFIT_CUDA_ARCHITECTURES}")
set_source_files_properties(cuda/kernels.cu PROPERTIES COMPILE_DEFINITIONS
  "AF_CUDA_ARCHITECTURES=\"${af_architectures}\"")
set_target_properties(avatarfit_cuda PROPERTIES
  PREFIX "lib" SUFFIX ".so"
  CUDA_ARCHITECTURES "${AVATARFIT_CUDA_ARCHITECTURES}"
  CUDA_RUNTIME_LIBRARY Static
  CUDA_VISIBILITY_PRESET hidden
  CUDA_SEPARABLE_COMPILATION OFF)

install(TARGETS avatarfit_cuda LIBRARY DESTINATION avatarfit/ops)
