// SPDX-License-Identifier: Apache-2.0
import cadft.Cadft;
import cadft.Loss;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The declarations of Cadft are those of the headers: functions, structs, constants. */
final class Abi {
    private static final Map<String, String> SCALARS = Map.of("int32_t", "int", "uint32_t", "int",
            "int64_t", "long", "uint64_t", "long", "size_t", "long", "double", "double",
            "uint8_t", "byte", "uint16_t", "short", "void", "void");

    private Abi() {}

    static void run(Path preprocessed, Path headers) throws Exception {
        String text = Files.readString(preprocessed)
                .replaceAll("__attribute__\\s*\\(\\(.*?\\)\\)\\)", "").replaceAll("\\s+", " ");
        functions(text);
        structs(text);
        constants(headers);
    }

    private static void functions(String text) {
        Map<String, Method> ours = new TreeMap<>();
        for (Method method : Cadft.class.getDeclaredMethods()) {
            if (Modifier.isNative(method.getModifiers())) {
                ours.put(method.getName(), method);
            }
        }
        Matcher m = Pattern.compile(
                "(int32_t|uint32_t|void|const char \\*) ?(cadft_\\w+)\\(([^;{}()]*)\\);")
                .matcher(text);
        while (m.find()) {
            Method method = ours.remove(m.group(2));
            Check.that(method != null, m.group(2) + " is not declared");
            List<String> types = new ArrayList<>(List.of(type(m.group(1))));
            if (!m.group(3).equals("void")) {
                for (String argument : m.group(3).split(",")) {
                    types.add(type(argument.replaceAll("\\w+$", "")));
                }
            }
            List<Class<?>> got = new ArrayList<>(List.of(method.getReturnType()));
            got.addAll(Arrays.asList(method.getParameterTypes()));
            Check.equal(types.size(), got.size(), m.group(2) + ": arguments");
            for (int i = 0; i < got.size(); i++) {
                Check.that(fits(types.get(i), got.get(i).getSimpleName()), m.group(2)
                        + ": argument " + i + " is " + types.get(i) + ", not " + got.get(i));
            }
        }
        Check.that(ours.isEmpty(), "not in the headers: " + ours.keySet());
    }

    /** "const cadft_tensor *" gives "cadft_tensor*". */
    private static String type(String text) {
        return text.replace("const ", "").replace(" ", "");
    }

    private static boolean fits(String c, String java) {
        if (!c.endsWith("*")) {
            return java.equals(SCALARS.get(c));
        }
        String to = c.substring(0, c.length() - 1);
        return switch (java) {
            case "Pointer" -> !to.startsWith("cadft_error");
            case "PointerByReference" -> to.endsWith("*");
            case "String" -> to.equals("char");
            case "byte[]" -> to.equals("char") || to.equals("void");
            case "int[]", "long[]", "double[]" ->
                java.equals(SCALARS.get(to) + "[]");
            default -> java.equals(to);
        };
    }

    private static void structs(String text) throws Exception {
        Map<String, Class<?>> ours = new TreeMap<>();
        for (Class<?> type : Cadft.class.getDeclaredClasses()) {
            if (Cadft.Struct.class.isAssignableFrom(type) && type != Cadft.Struct.class) {
                ours.put(type.getSimpleName(), type);
            }
        }
        Matcher m = Pattern.compile("typedef struct \\w+ \\{([^{}]*)\\} (\\w+);").matcher(text);
        while (m.find()) {
            Class<?> type = ours.remove(m.group(2));
            Check.that(type != null, m.group(2) + " is not declared");
            List<String> wanted = fields(m.group(1));
            List<String> got = new ArrayList<>(List.of("int struct_size"));
            for (String name : type.getAnnotation(com.sun.jna.Structure.FieldOrder.class).value()) {
                got.add(name(type.getField(name)) + " " + name);
            }
            Check.equal(wanted, got, m.group(2));
        }
        Check.that(ours.isEmpty(), "not in the headers: " + ours.keySet());
    }

    private static String name(Field field) {
        return field.getType().isPrimitive() ? field.getType().getName()
                : field.getType() == byte[].class ? "bytes" : "pointer";
    }

    /** Type and name of each field: "int code", "pointer user". */
    private static List<String> fields(String body) {
        List<String> fields = new ArrayList<>();
        for (String declaration : body.split(";")) {
            String d = declaration.trim().replace("const ", "");
            Matcher callback = Pattern.compile("\\(\\*(\\w+)\\)").matcher(d);
            if (d.isEmpty()) {
                continue;
            } else if (callback.find()) {
                fields.add("pointer " + callback.group(1));
            } else if (d.endsWith("]")) {
                fields.add("bytes " + d.replaceAll(".* (\\w+)\\[.*", "$1"));
            } else if (d.contains("*") || d.matches("cadft_\\w+_fn .*")) {
                fields.add("pointer " + d.replaceAll(".*\\W(\\w+)$", "$1"));
            } else {
                String[] words = d.split(" ", 2);
                for (String name : words[1].split(", ")) {
                    fields.add(SCALARS.get(words[0]) + " " + name);
                }
            }
        }
        return fields;
    }

    private static void constants(Path headers) throws Exception {
        Map<String, Integer> theirs = new TreeMap<>();
        for (String file : List.of("base.h", "loss.h", "model.h", "optimizer.h", "rewrite.h")) {
            Matcher m = Pattern.compile("\\b(CADFT_[A-Z0-9_]+) = (-?\\w+)")
                    .matcher(Files.readString(headers.resolve(file)));
            while (m.find()) {
                theirs.put(m.group(1), Integer.decode(m.group(2)));
            }
        }
        int checked = 0;
        for (Field field : Cadft.class.getDeclaredFields()) {
            if (field.getType() == int.class) {
                Check.equal(theirs.remove(field.getName()), field.getInt(null), field.getName());
                checked++;
            }
        }
        Check.that(checked > 0, "no constants");
        numbered(theirs, "CADFT_EXCHANGE_", Loss.Exchange.values());
        numbered(theirs, "CADFT_ROWS_", Loss.Rows.values());
        numbered(theirs, "CADFT_SAMPLES_", Loss.Samples.values());
        // What is left has names instead: knobs, their values, facts.
        for (String name : theirs.keySet()) {
            Check.that(!name.startsWith("CADFT_E_"), name + " is not declared");
        }
    }

    /** The values of an enum are those of the headers, from 1 on, without a gap. */
    private static void numbered(Map<String, Integer> theirs, String prefix, Enum<?>[] values) {
        for (Enum<?> value : values) {
            Check.equal(value.ordinal() + 1, theirs.remove(prefix + value), prefix + value);
        }
        for (String name : theirs.keySet()) {
            Check.that(!name.startsWith(prefix), name + " is not declared");
        }
    }
}
