/* embed.h: files that lie inside the program.
 *
 * EMBED(symbol, file) puts the bytes of a file of the repository, and a 0 behind them, into read-only memory as `symbol`, through the assembler.
 * The path is as the compiler is called, from the repository's root. The compiler's dependency files do not see the file: the Makefile names
 * which object is made again when it changes. */
#ifndef SEMINDEX_EMBED_H
#define SEMINDEX_EMBED_H

#define EMBED(symbol, file)                                                                                                                \
    __asm__(".section .rodata\n.global " #symbol "\n.balign 16\n" #symbol ":\n.incbin \"" file "\"\n.byte 0\n.previous\n");               \
    extern const char symbol[]

#endif
