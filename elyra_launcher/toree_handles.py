"""Code that runs inside a JVM without Java code of ours: methods that are there, put together by method handles."""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would take time and memory
if TYPE_CHECKING:
    from typing import Any, Sequence


class Handles:
    """Makes method handles, and objects that call them.

    Parameters
    ----------
    java : py4j's view of the JVM
        Where they are made.

    Notes
    -----
    What is called a *kind* here is a ``Class``.
    """

    def __init__(self, java: Any) -> None:
        self._java = java
        self._loader = java.java.lang.Thread.currentThread().getContextClassLoader()
        self._combine = java.java.lang.invoke.MethodHandles
        self._lookup = self._combine.lookup()
        self.object = self.kind("java.lang.Object")
        self.objects = self.kind("[Ljava.lang.Object;")
        self.string = self.kind("java.lang.String")
        self.throwable = self.kind("java.lang.Throwable")
        self.void = java.java.lang.Void.TYPE

    def kind(self, name: str) -> Any:
        """Return the class of a name."""
        return self._java.java.lang.Class.forName(name, True, self._loader)

    def array(self, kind: Any, values: Sequence[Any]) -> Any:
        """Return an array of a kind, or of the kind of a name."""
        kind = self.kind(kind) if isinstance(kind, str) else kind
        array = self._java.java.lang.reflect.Array.newInstance(kind, len(values))
        for index, value in enumerate(values):
            array[index] = value
        return array

    def method(self, kind: Any, name: str, returns: Any, *takes: Any) -> Any:
        """Return the handle of a method; the object comes first."""
        return self._lookup.findVirtual(kind, name, self._type(returns, takes)).asFixedArity()

    def static(self, kind: Any, name: str, returns: Any, *takes: Any) -> Any:
        """Return the handle of a static method."""
        return self._lookup.findStatic(kind, name, self._type(returns, takes))

    def unreflect(self, method: Any) -> Any:
        """Return the handle of a method that reflection found."""
        return self._lookup.unreflect(method)

    def constructor(self, kind: Any, *takes: Any) -> Any:
        """Return the handle of a constructor."""
        return self._lookup.findConstructor(kind, self._type(self.void, takes))

    def bind(self, handle: Any, index: int, *values: Any) -> Any:
        """Return a handle that does not take some of its arguments any more."""
        return self._combine.insertArguments(handle, index, self.array(self.object, values))

    def ignore(self, handle: Any, index: int, *takes: Any) -> Any:
        """Return a handle that takes more than it needs."""
        return self._combine.dropArguments(handle, index, self._kinds(takes))

    def order(self, handle: Any, indices: Sequence[int], *takes: Any) -> Any:
        """Return a handle that takes other arguments, and gives each place the one of that index."""
        return self._combine.permuteArguments(
            handle,
            self._type(handle.type().returnType(), takes),
            self.array(self._java.java.lang.Integer.TYPE, indices),
        )

    def cast(self, handle: Any, returns: Any, *takes: Any) -> Any:
        """Return a handle that takes and returns other kinds."""
        return handle.asType(self._type(returns, takes))

    def then(self, handle: Any, following: Any) -> Any:
        """Return a handle that calls another one with what the first one returns."""
        returned = handle.type().returnType()
        if following.type().parameterCount():
            following = self.cast(following, following.type().returnType(), returned)
        return self._combine.filterReturnValue(handle, following)

    def before(self, handle: Any, first: Any) -> Any:
        """Return a handle that has another one called first; with what that returns, unless it is nothing."""
        return self._combine.foldArguments(handle, first)

    def filter(self, handle: Any, index: int, *filters: Any) -> Any:
        """Return a handle that gives another one what filters make of some of its arguments."""
        return self._combine.filterArguments(handle, index, self.array("java.lang.invoke.MethodHandle", filters))

    def choose(self, test: Any, handle: Any, otherwise: Any) -> Any:
        """Return a handle that calls the one or the other."""
        return self._combine.guardWithTest(test, handle, otherwise)

    def caught(self, handle: Any, instead: Any) -> Any:
        """Return a handle that calls another one with what the first one throws."""
        return self._combine.catchException(handle, self.throwable, instead)

    def constant(self, value: Any, kind: Any = None) -> Any:
        """Return a handle that takes nothing and returns a value."""
        return self._combine.constant(kind or self.object, value)

    def identity(self, kind: Any) -> Any:
        """Return a handle that returns what it takes."""
        return self._combine.identity(kind)

    def nothing(self) -> Any:
        """Return a handle that does nothing."""
        return self.cast(self.constant(None), self.void)

    def element(self, index: int) -> Any:
        """Return a handle that returns an element of an array of objects."""
        return self.bind(self._combine.arrayElementGetter(self.objects), 1, index)

    def implement(self, kind: Any, handle: Any) -> Any:
        """Return an object with an interface of one method, which calls the handle."""
        return self._java.java.lang.invoke.MethodHandleProxies.asInterfaceInstance(kind, handle)

    def runnable(self, target: Any, method: str, *numbers: int) -> Any:
        """Return a Runnable that calls a method of an object, which returns nothing, with numbers."""
        takes = [self._java.java.lang.Integer.TYPE for _ in numbers]
        handle = self.method(target.getClass(), method, self.void, *takes)
        return self.implement(self.kind("java.lang.Runnable"), self.bind(handle, 0, target, *numbers))

    def _type(self, returns: Any, takes: Sequence[Any]) -> Any:
        return self._java.java.lang.invoke.MethodType.methodType(returns, self._kinds(takes))

    def _kinds(self, kinds: Sequence[Any]) -> Any:
        return self.array("java.lang.Class", kinds)


def field(target: Any, name: str) -> Any:
    """Return the value of an object's private field."""
    return _accessible(target, name).get(target)


def set_field(target: Any, name: str, value: Any) -> None:
    """Set an object's private field, even if it is final."""
    _accessible(target, name).set(target, value)


def field_of_type(target: Any, name: str) -> Any:
    """Return the value of an object's first field of a type, whatever its name is."""
    for each in target.getClass().getDeclaredFields():
        if each.getType().getName() == name:
            each.setAccessible(True)
            return each.get(target)
    return None


def _accessible(target: Any, name: str) -> Any:
    kind = target.getClass()
    while kind is not None:
        for each in kind.getDeclaredFields():
            if each.getName().split("$$")[-1] == name:  # Scala puts the name of the class before it, sometimes
                each.setAccessible(True)
                return each
        kind = kind.getSuperclass()
    raise AttributeError(f"{target.getClass().getName()} has no field {name}")
