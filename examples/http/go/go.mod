module http

go 1.22
