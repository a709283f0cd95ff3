package ociregistry_test

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/seed-40b21970/oci/ociregistry"
)

// methods returns the exported methods of [ociregistry.Interface].
func methods() []reflect.Method {
	var all []reflect.Method
	typ := reflect.TypeFor[ociregistry.Interface]()
	for i := range typ.NumMethod() {
		if m := typ.Method(i); m.IsExported() {
			all = append(all, m)
		}
	}
	return all
}

// distinctArgs returns arguments for a method of which no two are equal.
// Strings and digests say which argument they are.
func distinctArgs(ctx context.Context, m reflect.Method) []reflect.Value {
	args := []reflect.Value{reflect.ValueOf(ctx)}
	for i := 1; i < m.Type.NumIn(); i++ {
		in := m.Type.In(i)
		arg := reflect.New(in).Elem()
		switch in.Kind() {
		case reflect.String:
			arg.SetString("arg" + string(rune('0'+i)))
		case reflect.Int, reflect.Int64:
			arg.SetInt(int64(i))
		case reflect.Slice:
			arg = reflect.MakeSlice(in, i, i)
		case reflect.Struct:
			arg.Set(reflect.ValueOf(ociregistry.Descriptor{Size: int64(i)}))
		case reflect.Interface:
			arg.Set(reflect.ValueOf(strings.NewReader("content")))
		}
		args = append(args, arg)
	}
	return args
}

// call calls the method of r that m names.
func call(r ociregistry.Interface, m reflect.Method, args []reflect.Value) []reflect.Value {
	method := reflect.ValueOf(r).MethodByName(m.Name)
	if m.Type.IsVariadic() {
		return method.CallSlice(args)
	}
	return method.Call(args)
}

// errorOf returns the error that a call returned, in its result or as the only
// element of its sequence, and checks that it returned nothing else.
func errorOf(t *testing.T, results []reflect.Value) error {
	t.Helper()
	switch seq := results[0].Interface().(type) {
	case iter.Seq2[string, error]:
		all, err := ociregistry.All(seq)
		qt.Check(t, qt.HasLen(all, 0))
		return err
	case iter.Seq2[ociregistry.Descriptor, error]:
		all, err := ociregistry.All(seq)
		qt.Check(t, qt.HasLen(all, 0))
		return err
	}
	for _, result := range results[:len(results)-1] {
		qt.Check(t, qt.IsTrue(result.IsZero()))
	}
	err, _ := results[len(results)-1].Interface().(error)
	return err
}

// repoArg returns the repository that a method's errors are about, if its
// arguments are those of distinctArgs.
func repoArg(method string) string {
	switch method {
	case "Repositories":
		return ""
	case "MountBlob":
		return "arg2"
	}
	return "arg1"
}

type ctxKey struct{}

func TestFuncsCallsTheFunctionOfEachMethod(t *testing.T) {
	t.Parallel()
	ctx := context.WithValue(t.Context(), ctxKey{}, "mine")
	for _, m := range methods() {
		t.Run(m.Name, func(t *testing.T) {
			f := &ociregistry.Funcs{
				NewError: func(_ context.Context, method, _ string) error {
					return errors.New("function was not called")
				},
			}
			field := reflect.ValueOf(f).Elem().FieldByName(m.Name + "_")
			qt.Assert(t, qt.IsTrue(field.IsValid()), qt.Commentf("Funcs has no field %s_", m.Name))
			qt.Assert(t, qt.Equals(field.Type(), m.Type))

			var gotArgs []reflect.Value
			results := make([]reflect.Value, m.Type.NumOut())
			for i := range results {
				out := m.Type.Out(i)
				results[i] = reflect.New(out).Elem()
				switch {
				case out == reflect.TypeFor[error]():
					results[i].Set(reflect.ValueOf(errors.New("mine")))
				case out == reflect.TypeFor[ociregistry.Descriptor]():
					results[i].Set(reflect.ValueOf(ociregistry.Descriptor{Size: 99}))
				case out == reflect.TypeFor[ociregistry.BlobReader]():
					results[i].Set(reflect.ValueOf(&blobReader{}))
				case out == reflect.TypeFor[ociregistry.BlobWriter]():
					results[i].Set(reflect.ValueOf(&blobWriter{}))
				case out == reflect.TypeFor[iter.Seq2[string, error]]():
					results[i].Set(reflect.ValueOf(ociregistry.SliceSeq([]string{"mine"})))
				case out == reflect.TypeFor[iter.Seq2[ociregistry.Descriptor, error]]():
					results[i].Set(reflect.ValueOf(ociregistry.SliceSeq([]ociregistry.Descriptor{{Size: 99}})))
				default:
					t.Fatalf("a result of a new type: %v", out)
				}
			}
			field.Set(reflect.MakeFunc(m.Type, func(args []reflect.Value) []reflect.Value {
				gotArgs = args
				return results
			}))

			args := distinctArgs(ctx, m)
			gotResults := call(f, m, args)
			qt.Assert(t, qt.HasLen(gotArgs, len(args)))
			for i := range args {
				qt.Check(t, qt.IsTrue(reflect.DeepEqual(gotArgs[i].Interface(), args[i].Interface())), qt.Commentf("argument %d", i))
			}
			for i := range results {
				if results[i].Kind() == reflect.Func {
					qt.Check(t, qt.Equals(gotResults[i].Pointer(), results[i].Pointer()))
					continue
				}
				qt.Check(t, qt.IsTrue(reflect.DeepEqual(gotResults[i].Interface(), results[i].Interface())), qt.Commentf("result %d", i))
			}
		})
	}
}

type (
	blobReader struct{ ociregistry.BlobReader }
	blobWriter struct{ ociregistry.BlobWriter }
)

func TestFuncsHasNoOtherFields(t *testing.T) {
	t.Parallel()
	names := map[string]bool{"NewError": true}
	for _, m := range methods() {
		names[m.Name+"_"] = true
	}
	typ := reflect.TypeFor[ociregistry.Funcs]()
	for i := range typ.NumField() {
		name := typ.Field(i).Name
		qt.Check(t, qt.IsTrue(names[name]), qt.Commentf("field %s belongs to no method", name))
	}
}

func TestFuncsWithoutFunctionsIsUnsupported(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]*ociregistry.Funcs{"nil": nil, "zero": {}} {
		t.Run(name, func(t *testing.T) {
			for _, m := range methods() {
				err := errorOf(t, call(f, m, distinctArgs(t.Context(), m)))
				qt.Check(t, qt.ErrorIs(err, ociregistry.ErrUnsupported), qt.Commentf(m.Name))
				var op *ociregistry.OpError
				qt.Assert(t, qt.ErrorAs(err, &op), qt.Commentf(m.Name))
				qt.Check(t, qt.Equals(op.Op, m.Name))
				qt.Check(t, qt.Equals(op.Repository, repoArg(m.Name)), qt.Commentf(m.Name))
			}
		})
	}
}

func TestFuncsNewErrorMakesTheErrors(t *testing.T) {
	t.Parallel()
	ctx := context.WithValue(t.Context(), ctxKey{}, "mine")
	for _, m := range methods() {
		mine := errors.New("mine")
		f := &ociregistry.Funcs{
			NewError: func(ctx context.Context, method, repo string) error {
				qt.Check(t, qt.Equals(ctx.Value(ctxKey{}), any("mine")))
				qt.Check(t, qt.Equals(method, m.Name))
				qt.Check(t, qt.Equals(repo, repoArg(m.Name)))
				return mine
			},
		}
		err := errorOf(t, call(f, m, distinctArgs(ctx, m)))
		qt.Check(t, qt.Equals(err, mine), qt.Commentf(m.Name))
	}
}

// Types become an Interface by embedding a *Funcs, and can override its methods.
func TestFuncsCanBeEmbedded(t *testing.T) {
	t.Parallel()
	var r ociregistry.Interface = struct{ *ociregistry.Funcs }{}
	_, err := r.GetTag(t.Context(), "foo", "latest")
	qt.Check(t, qt.ErrorIs(err, ociregistry.ErrUnsupported))
}
