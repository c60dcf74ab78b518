package main_test

import (
	"context"
	"log"

	"google.golang.org/protobuf/proto"

	paginationv1 "github.com/remit-io/remit/proto/pagination/v1"
	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// The functions below are the Go examples of the API's documentation, pasted;
// testdata/document/functions.txt holds them as they are published.

func createPermission(client permissionsv1.PermissionsServiceClient) {
	req := &permissionsv1.CreatePermissionRequest{
		ProjectName: "production",
		Name:        "document.read",
		Description: "Allows reading documents",
	}

	resp, err := client.CreatePermission(context.Background(), req)
	if err != nil {
		log.Fatalf("Failed to create permission: %v", err)
	}

	log.Printf("Created permission: %s (ID: %s)", resp.Name, resp.Id)
}

func getPermission(client permissionsv1.PermissionsServiceClient, projectName, permissionName string) {
	req := &permissionsv1.GetPermissionRequest{
		ProjectName: projectName,
		Name:        permissionName,
	}

	resp, err := client.GetPermission(context.Background(), req)
	if err != nil {
		log.Fatalf("Failed to get permission: %v", err)
	}

	log.Printf("Permission: %s - %s", resp.Name, resp.Description)
}

func updatePermission(client permissionsv1.PermissionsServiceClient, projectName, permissionName string) {
	req := &permissionsv1.UpdatePermissionRequest{
		ProjectName: projectName,
		Name:        permissionName,
		NewName:     "document.read",
		Description: "Updated description for reading documents",
	}

	resp, err := client.UpdatePermission(context.Background(), req)
	if err != nil {
		log.Fatalf("Failed to update permission: %v", err)
	}

	log.Printf("Updated permission: %s", resp.Name)
}

func deletePermission(client permissionsv1.PermissionsServiceClient, projectName, permissionName string) {
	req := &permissionsv1.DeletePermissionRequest{
		ProjectName: projectName,
		Name:        permissionName,
	}

	_, err := client.DeletePermission(context.Background(), req)
	if err != nil {
		log.Fatalf("Failed to delete permission: %v", err)
	}

	log.Printf("Deleted permission: %s", permissionName)
}

func listPermissions(client permissionsv1.PermissionsServiceClient, projectName string) {
	req := &permissionsv1.ListPermissionsRequest{
		ProjectName: projectName,
		Pagination: &paginationv1.PaginationRequest{
			Limit: proto.Int32(10),
		},
		Search: proto.String("document"),
	}

	resp, err := client.ListPermissions(context.Background(), req)
	if err != nil {
		log.Fatalf("Failed to list permissions: %v", err)
	}

	for _, permission := range resp.Permissions {
		log.Printf("Permission: %s - %s", permission.Name, permission.Description)
	}
}

func createRole(client permissionsv1.PermissionsServiceClient, projectName string, permissionNames []string) {
	req := &permissionsv1.CreateRoleRequest{
		ProjectName: projectName,
		Name:        "document_editor",
		Description: "Can read and write documents",
		Permissions: permissionNames,
	}

	resp, err := client.CreateRole(context.Background(), req)
	if err != nil {
		log.Fatalf("Failed to create role: %v", err)
	}

	log.Printf("Created role: %s (ID: %s)", resp.Name, resp.Id)
}

func getRole(client permissionsv1.PermissionsServiceClient, projectName, roleId string) {
	req := &permissionsv1.GetRoleRequest{
		ProjectName: projectName,
		Id:          roleId,
	}

	resp, err := client.GetRole(context.Background(), req)
	if err != nil {
		log.Fatalf("Failed to get role: %v", err)
	}

	log.Printf("Role: %s - %s (Permissions: %d)", resp.Name, resp.Description, len(resp.Permissions))
}

func updateRole(client permissionsv1.PermissionsServiceClient, projectName, roleId string, permissionNames []string) {
	req := &permissionsv1.UpdateRoleRequest{
		ProjectName: projectName,
		Id:          roleId,
		Name:        "document_editor",
		Description: "Updated description",
		Permissions: permissionNames,
	}

	resp, err := client.UpdateRole(context.Background(), req)
	if err != nil {
		log.Fatalf("Failed to update role: %v", err)
	}

	log.Printf("Updated role: %s", resp.Name)
}

func deleteRole(client permissionsv1.PermissionsServiceClient, projectName, roleId string) {
	req := &permissionsv1.DeleteRoleRequest{
		ProjectName: projectName,
		Id:          roleId,
	}

	_, err := client.DeleteRole(context.Background(), req)
	if err != nil {
		log.Fatalf("Failed to delete role: %v", err)
	}

	log.Printf("Deleted role: %s", roleId)
}

func listRoles(client permissionsv1.PermissionsServiceClient, projectName string) {
	req := &permissionsv1.ListRolesRequest{
		ProjectName: projectName,
		Pagination: &paginationv1.PaginationRequest{
			Limit: proto.Int32(10),
		},
		Search: proto.String("editor"),
	}

	resp, err := client.ListRoles(context.Background(), req)
	if err != nil {
		log.Fatalf("Failed to list roles: %v", err)
	}

	for _, role := range resp.Roles {
		log.Printf("Role: %s - %s (Permissions: %d)", role.Name, role.Description, len(role.Permissions))
	}
}

func grantPermissions(client permissionsv1.PermissionsServiceClient, userId, resourceUri string, permissions, roles []string) {
	req := &permissionsv1.GrantUserPermissionsAndRolesOnResourceRequest{
		ProjectName: "production",
		UserId:      userId,
		ResourceUri: resourceUri,
		Permissions: permissions,
		Roles:       roles,
	}

	_, err := client.GrantUserPermissionsAndRolesOnResource(context.Background(), req)
	if err != nil {
		log.Fatalf("Failed to grant permissions: %v", err)
	}

	log.Printf("Granted permissions to user %s on resource %s", userId, resourceUri)
}

func revokePermissions(client permissionsv1.PermissionsServiceClient, userId, resourceUri string, permissions, roles []string) {
	req := &permissionsv1.RevokeUserPermissionsAndRolesOnResourceRequest{
		ProjectName: "production",
		UserId:      userId,
		ResourceUri: resourceUri,
		Permissions: permissions,
		Roles:       roles,
	}

	_, err := client.RevokeUserPermissionsAndRolesOnResource(context.Background(), req)
	if err != nil {
		log.Fatalf("Failed to revoke permissions: %v", err)
	}

	log.Printf("Revoked permissions from user %s on resource %s", userId, resourceUri)
}

func getUserPermissions(client permissionsv1.PermissionsServiceClient, userId, resourceUri string) {
	req := &permissionsv1.GetUserPermissionsAndRolesOnResourceRequest{
		ProjectName: "production",
		UserId:      userId,
		ResourceUri: resourceUri,
	}

	resp, err := client.GetUserPermissionsAndRolesOnResource(context.Background(), req)
	if err != nil {
		log.Fatalf("Failed to get user permissions: %v", err)
	}

	log.Printf("User has %d permissions and %d roles on resource %s",
		len(resp.Permissions), len(resp.Roles), resourceUri)
}

func listPrincipals(client permissionsv1.PermissionsServiceClient, projectName string) {
	req := &permissionsv1.ListPrincipalsRequest{
		ProjectName: projectName,
		Pagination: &paginationv1.PaginationRequest{
			Limit: proto.Int32(10),
		},
	}

	resp, err := client.ListPrincipals(context.Background(), req)
	if err != nil {
		log.Fatalf("Failed to list principals: %v", err)
	}

	for _, principal := range resp.Principals {
		log.Printf("Principal: %s", principal)
	}
}

func getAllAssignments(client permissionsv1.PermissionsServiceClient, projectName, principalId string) {
	req := &permissionsv1.GetAllAssignmentsForPrincipalRequest{
		ProjectName: projectName,
		PrincipalId: principalId,
	}

	resp, err := client.GetAllAssignmentsForPrincipal(context.Background(), req)
	if err != nil {
		log.Fatalf("Failed to get assignments: %v", err)
	}

	for _, assignment := range resp.Assignments {
		log.Printf("Resource: %s, Permissions: %d, Roles: %d",
			assignment.ResourceUri, len(assignment.Permissions), len(assignment.Roles))
	}
}

func checkPermissions(client permissionsv1.PermissionsServiceClient, principalId string, resourceUris, permissions []string) {
	req := &permissionsv1.CheckPermissionRequest{
		ProjectName:  "production",
		PrincipalId:  principalId,
		ResourceUris: resourceUris,
		Permissions:  permissions,
	}

	resp, err := client.Check(context.Background(), req)
	if err != nil {
		log.Fatalf("Failed to check permissions: %v", err)
	}

	if resp.Passed {
		log.Printf("Permission check passed for principal %s", principalId)
	} else {
		log.Printf("Permission check failed:")
		for _, missing := range resp.MissingPermissions {
			log.Printf("  Resource %s missing: %v", missing.ResourceUri, missing.MissingPermissions)
		}
	}
}
