! SPDX-License-Identifier: Apache-2.0
! Fortran: arrays, formatted and direct files, internal reads, recursion, an error with a status.
program matrices
  implicit none
  integer, parameter :: n = 60
  real(8) :: a(n, n), b(n, n), c(n, n)
  integer :: i, j, status, number
  character(len=200) :: folder, line
  a = reshape([((real(i * 3 + j, 8) / n, i = 1, n), j = 1, n)], [n, n])
  b = transpose(a)
  c = matmul(a, b)
  print '(a, f14.4, a, f14.4)', 'trace ', sum([(c(i, i), i = 1, n)]), ' norm ', norm2(c)
  print '(a, i0, a, i0)', 'factorial ', factorial(10), ' primes ', primes(1000)
  call get_command_argument(1, folder)
  if (len_trim(folder) == 0) folder = '/tmp'
  open(unit=10, file=trim(folder) // '/from_fortran.txt', action='readwrite', status='replace')
  do i = 1, 100
    write(10, '(i5, f12.6)') i, sqrt(real(i, 8))
  end do
  rewind(10)
  number = 0
  do
    read(10, '(a)', iostat=status) line
    if (status /= 0) exit
    number = number + len_trim(line)
  end do
  close(10)
  print '(a, i0)', 'characters ', number
  open(unit=11, file=trim(folder) // '/direct', access='direct', recl=8, status='replace')
  do i = 10, 1, -1
    write(11, rec=i) real(i, 8) ** 2
  end do
  read(11, rec=7) a(1, 1)
  close(11)
  open(unit=12, file='/none/none', status='old', iostat=status)
  print '(a, f6.1, a, l1)', 'record 7 ', a(1, 1), ' missing ', status /= 0
  line = '  42  -7'
  read(line, *) i, j
  print '(a, i0)', 'sum ', i + j
  stop 6
contains
  recursive function factorial(value) result(product)
    integer, intent(in) :: value
    integer :: product
    product = 1
    if (value > 1) product = value * factorial(value - 1)
  end function
  function primes(limit) result(count)
    integer, intent(in) :: limit
    integer :: count, k
    logical :: sieve(limit)
    sieve = .true.
    sieve(1) = .false.
    do k = 2, limit / 2
      if (sieve(k)) sieve(2 * k::k) = .false.
    end do
    count = sum(merge(1, 0, sieve))
  end function
end program
