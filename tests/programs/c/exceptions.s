# The tags that code with setjmp or exceptions refers to. This C library comes without them.
	.tagtype __c_longjmp i32
	.globl __c_longjmp
__c_longjmp:
	.tagtype __cpp_exception i32
	.globl __cpp_exception
__cpp_exception:
