# SPDX-License-Identifier: Apache-2.0
# cmake -DCONFIG=cadft-config-version.cmake -P versions.cmake
#
# Which requests the installed version file serves, at 0.1.0 as installed and at
# what later releases will say.
file(READ "${CONFIG}" text)

# serves VERSION yes|no|exact REQUEST [...END]: END is of a range, "<" first
# where it is excluded
function(serves version expected request)
  string(REGEX REPLACE "PACKAGE_VERSION \"[0-9.]+\""
    "PACKAGE_VERSION \"${version}\"" changed "${text}")
  file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/version.cmake" "${changed}")
  set(PACKAGE_FIND_VERSION "${request}")
  if(ARGN)
    set(PACKAGE_FIND_VERSION_RANGE "${request}...${ARGN}")
    set(PACKAGE_FIND_VERSION_MIN "${request}")
    set(PACKAGE_FIND_VERSION_RANGE_MAX INCLUDE)
    if(ARGN MATCHES "^<")
      set(PACKAGE_FIND_VERSION_RANGE_MAX EXCLUDE)
    endif()
    string(REPLACE "<" "" PACKAGE_FIND_VERSION_MAX "${ARGN}")
  endif()
  include("${CMAKE_CURRENT_BINARY_DIR}/version.cmake")
  set(found no)
  if(PACKAGE_VERSION_EXACT)
    set(found exact)
  elseif(PACKAGE_VERSION_COMPATIBLE)
    set(found yes)
  endif()
  if(PACKAGE_VERSION_UNSUITABLE OR NOT found STREQUAL expected)
    message(SEND_ERROR
      "${version} for ${request} ${ARGN}: ${found}, expected ${expected}")
  endif()
endfunction()

serves(0.1.0 exact 0.1.0)
serves(0.1.0 exact 0.1)
serves(0.1.3 yes 0.1)
serves(0.1.3 yes 0.1.2)
serves(0.1.3 no 0.1.4)
serves(0.1.3 no 0.2)
serves(0.2.0 no 0.1)
serves(0.10.0 no 0.1)
serves(0.2.0 no 0)
serves(0.2.0 no 1.0)
serves(1.0.0 no 0.9)
serves(1.2.3 yes 1)
serves(1.2.3 yes 1.1)
serves(1.2.3 no 1.3)
serves(2.0.0 no 1.9)
serves(12.0.0 no 1.0)
serves(0.2.5 yes 0.1 1)
serves(0.2.5 yes 0.1 <0.3)
serves(0.3.0 no 0.1 <0.3)
serves(0.3.0 yes 0.1 0.3)
serves(0.3.1 no 0.1 0.3)
serves(0.1.0 no 0.2 0.3)

# Another word size
set(CMAKE_SIZEOF_VOID_P 2)
set(PACKAGE_FIND_VERSION 0.1)
include("${CONFIG}")
if(NOT PACKAGE_VERSION_UNSUITABLE)
  message(SEND_ERROR "serves hosts of 16 bits")
endif()
